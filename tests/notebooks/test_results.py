from __future__ import annotations

import ast
import base64
import html
import importlib
import re
from collections.abc import Sequence
from datetime import datetime
from itertools import groupby, pairwise
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook
from traitlets.config import Config

from tests.builders import Played, Script, play
from tourney_ray.core import events as e
from tourney_ray.core.models import Blame, Failed
from tourney_ray.store.journal import Journal
from tourney_ray.store.snapshot import snapshot

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
RESULTS = FOLDER / "results.ipynb"

PNG = b"\x89PNG\r\n\x1a\n"
HOSTILE = "<script>alert('mine')</script>"

# Without this, ipykernel complains on every start that what it says goes over TCP in the clear.
ENCRYPTED = Config({"KernelManager": {"transport_encryption": "required"}})


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel neither reads nor writes anything in the home of whoever runs the tests."""
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "1")


@pytest.fixture(scope="module")
def played() -> Played:
    """A tournament with a crash, a lost node and a metric that is no number in its first round."""
    crash = Failed(blame=Blame.MINER, kind="crashed", reason="exit status 1", seconds=0.5, log_tail=HOSTILE)
    lost = Failed(blame=Blame.PLATFORM, kind="lost", reason="the node is gone")
    failures = {(1, "m03"): [crash], (1, "m04"): [lost]}
    return play(10, script=Script(failures=failures, values={(1, "m05"): float("nan")}))


def write(folder: Path, facts: Sequence[tuple[e.Fact, datetime]]) -> Journal:
    """An open journal with these facts, ten seconds of them at a time: every append waits for the disk."""
    journal = Journal.open(folder)
    for _, group in groupby(facts, key=lambda pair: pair[1].timestamp() // 10):
        together = list(group)
        journal.append([fact for fact, _ in together], together[-1][1])
    return journal


def execute(notebook: NotebookNode, *, allow_errors: bool = False) -> NotebookNode:
    """The notebook after all of its cells have run, with what they put out."""
    where = {"metadata": {"path": str(FOLDER)}}
    client = NotebookClient(
        notebook, timeout=60, kernel_name="python3", resources=where, allow_errors=allow_errors, config=ENCRYPTED
    )
    return client.execute()


def outputs(notebook: NotebookNode, kind: str) -> list[tuple[str, NotebookNode]]:
    """All outputs of that kind, each with the id of its cell."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [(cell.id, output) for cell in cells for output in cell.outputs if output.output_type == kind]


def tables(notebook: NotebookNode) -> dict[str, str]:
    """The HTML of each cell that shows tables."""
    shown: dict[str, str] = {}
    for cell, output in outputs(notebook, "display_data"):
        shown[cell] = shown.get(cell, "") + output.data.get("text/html", "")
    return shown


def figures(notebook: NotebookNode) -> dict[str, list[bytes]]:
    """The pictures of each cell that draws, as PNG."""
    drawn: dict[str, list[bytes]] = {}
    for cell, output in outputs(notebook, "display_data"):
        if "image/png" in output.data:
            drawn.setdefault(cell, []).append(base64.b64decode(output.data["image/png"]))
    return drawn


def printed(notebook: NotebookNode, stream: str = "stdout") -> dict[str, str]:
    """What each cell printed there; it may arrive in pieces."""
    said: dict[str, str] = {}
    for cell, output in outputs(notebook, "stream"):
        if output.name == stream:
            said[cell] = said.get(cell, "") + output.text
    return said


def texts(shown: str) -> list[str]:
    """The text of each table cell."""
    return [html.unescape(text) for text in re.findall(r"<td[^>]*>(.*?)</td>", shown, re.DOTALL)]


def test_a_whole_tournament_is_shown(played: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "state", played.facts).close()
    monkeypatch.setenv("TOURNEY_STATE", str(tmp_path / "state"))

    notebook = execute(nbformat.read(RESULTS, 4))

    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    assert printed(notebook, "stderr") == {}
    shown = tables(notebook)
    completed = played.tournament.completed
    assert completed
    assert completed.winner in texts(shown["champion"])
    assert completed.because in texts(shown["champion"])
    reasons = {v.because for fact, _ in played.facts if isinstance(fact, e.MatchDecided) for v in fact.verdicts}
    assert len(reasons) > 10
    assert reasons <= set(texts(shown["verdicts-table"]))
    decided = {fact.because for fact, _ in played.facts if isinstance(fact, e.TaskDecided)}
    assert decided <= set(texts(shown["tasks-table"]))
    assert {"m05"} <= set(texts(shown["unranked-table"]))
    assert {s.hotkey for s in completed.standings} <= set(texts(shown["standings-table"]))
    assert "the node is gone" in texts(shown["failures-table"])
    assert HOSTILE in texts(shown["failures-table"])
    assert HOSTILE not in shown["failures-table"]
    drawn = figures(notebook)
    assert set(drawn) == {"values-figure", "boss-figure", "trainings-figure", "leases-figure", "weights-figure"}
    assert len(drawn["values-figure"]) == len({task.task_type for task in played.tournament.tasks.values()})
    assert all(picture.startswith(PNG) and len(picture) > 5000 for pictures in drawn.values() for picture in pictures)


def test_a_snapshot_of_a_tournament_that_goes_on_is_shown(
    played: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = next(i for i, (fact, _) in enumerate(played.facts) if isinstance(fact, e.AttemptRunning))
    journal = write(tmp_path / "state", played.facts[: running + 1])
    taken = snapshot(journal.database(), tmp_path / "taken.duckdb")
    monkeypatch.setenv("TOURNEY_STATE", str(taken))

    notebook = execute(nbformat.read(RESULTS, 4))
    journal.close()

    assert printed(notebook, "stderr") == {}
    assert "active" in texts(tables(notebook)["champion"])
    assert set(figures(notebook)) == {"trainings-figure", "leases-figure"}
    assert printed(notebook)["values-figure"] == "No task is decided yet.\n"
    assert "no standings" in printed(notebook)["weights-figure"]


def test_where_nothing_can_be_read_it_says_why(played: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = next(cell.source for cell in nbformat.read(RESULTS, 4).cells if cell.id == "open")
    busy = tmp_path / "busy"
    journal = write(busy, played.facts[:1])
    monkeypatch.setenv("TOURNEY_STATE", str(tmp_path / "nowhere"))
    lines = [source, f"os.environ['TOURNEY_STATE'] = {str(busy)!r}", source]
    lines += [f"del os.environ['TOURNEY_STATE']; os.chdir({str(tmp_path)!r})", source]

    notebook = execute(new_notebook(cells=[new_code_cell(each) for each in lines]), allow_errors=True)
    journal.close()

    missing, used, none = (output for _, output in outputs(notebook, "error"))
    assert missing.ename == "NotFound"
    assert "nowhere" in missing.evalue
    assert "TOURNEY_STATE" in missing.evalue
    assert used.ename == "InUse"
    assert "is in use by" in used.evalue
    assert "ask the driver" in used.evalue
    assert none.ename == "NotFound"
    assert "make demo" in none.evalue


def test_the_way_through_a_driver_is_one_that_exists() -> None:
    cell = next(cell for cell in nbformat.read(RESULTS, 4).cells if cell.id == "ask-driver")
    tree = ast.parse(re.sub(r"^# ?", "", cell.source, flags=re.MULTILINE))
    (imported,) = (node for node in tree.body if isinstance(node, ast.ImportFrom))
    module = importlib.import_module(str(imported.module))
    assert {name.name for name in imported.names} == {"connect", "find"}
    assert all(callable(getattr(module, name.name)) for name in imported.names)
    assert callable(module.DriverClient.query)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_is_committed_valid_and_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in notebook.cells:
        assert cell.metadata == {}
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


def test_words_stand_before_every_code_cell() -> None:
    cells = nbformat.read(RESULTS, 4).cells
    assert [code.id for before, code in pairwise(cells) if before.cell_type == code.cell_type == "code"] == []
