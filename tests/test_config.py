"""What an operator may write in a settings file, and the one line that each mistake costs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tourney_ray.config import Settings, load_settings
from tourney_ray.core.models import TaskType, TournamentType
from tourney_ray.core.rules import Rules
from tourney_ray.errors import ConfigError

SMALL = """
state = "state"
[registry]
miners = "miners.json"
"""
WHOLE = """
name = "spring"
state = "/var/tourney"
types = ["image", "text"]
endless = true
seed = 7

[registry]
miners = "lists/miners.toml"
transfers = "../transfers.json"
answer_deadline_s = 2.5

[repositories]
allowed_hosts = ["git.example.com"]
allow_file = true
deadline_s = 30

[sandbox]
kind = "process"

[cluster]
address = "10.0.0.1:6379"
max_trainers = 3

[base_contestants.text]
hotkey = "base"
coldkey = "c-base"
repo = "https://git.example.com/base"
commit = "main"

[rules]
min_miners = 4
boss_tasks = ["InstructTextTask"]
knockout_task_shares = { InstructTextTask = 1.0 }
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "tournament.toml"
    path.write_text(text)
    return path


def complaint(path: Path) -> str:
    """Why the file is refused: one line that names it."""
    with pytest.raises(ConfigError) as caught:
        load_settings(path)
    message = caught.value.message
    assert message.isprintable(), "one line"
    assert message.startswith(str(path))
    return message.removeprefix(str(path)).lstrip(": ")


def test_little_is_needed_and_the_rest_are_the_rules_of_the_game(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, SMALL))
    assert settings == Settings.model_validate(
        {"state": tmp_path / "state", "registry": {"miners": tmp_path / "miners.json"}}
    )
    assert (settings.name, settings.types, settings.endless) == ("tourney", (TournamentType.TEXT,), False)
    assert (settings.seed, settings.rules) == (None, Rules())


def test_everything_that_is_written_counts(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, WHOLE))
    assert (settings.name, settings.seed, settings.endless) == ("spring", 7, True)
    assert settings.types == (TournamentType.IMAGE, TournamentType.TEXT)
    assert settings.registry.answer_deadline_s == 2.5
    assert settings.repositories.allowed_hosts == ("git.example.com",)
    assert (settings.sandbox.kind, settings.cluster.max_trainers) == ("process", 3)
    assert settings.base_contestants[TournamentType.TEXT].commit == "main"
    assert settings.rules.boss_tasks == (TaskType.INSTRUCT,)
    assert (settings.rules.min_miners, settings.rules.group_advance) == (4, Rules().group_advance)


def test_relative_paths_are_taken_from_the_files_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    write(folder, WHOLE.replace("/var/tourney", "run/state"))
    monkeypatch.chdir(tmp_path)
    settings = load_settings(Path("there/tournament.toml"))
    assert settings.state == folder / "run" / "state"
    assert settings.data == settings.state / "data"
    assert settings.registry.miners == folder / "lists" / "miners.toml"
    assert settings.registry.transfers
    assert settings.registry.transfers.resolve() == tmp_path / "transfers.json"


def test_absolute_paths_stay(tmp_path: Path) -> None:
    assert load_settings(write(tmp_path, WHOLE)).state == Path("/var/tourney")


def test_rules_may_start_from_a_preset(tmp_path: Path) -> None:
    god = Rules.preset("god-2025-12")
    assert load_settings(write(tmp_path, SMALL + "[rules]\npreset = 'god-2025-12'\n")).rules == god
    changed = load_settings(write(tmp_path, SMALL + "[rules]\npreset = 'god-2025-12'\ngroup_size = 40\n")).rules
    assert changed == god.model_copy(update={"group_size": 40})
    assert load_settings(write(tmp_path, SMALL + "[rules]\npreset = 'spec'\n")).rules == Rules()
    assert Settings.model_validate({"state": "s", "registry": {"miners": "m"}, "rules": god}).rules is god


@pytest.mark.parametrize(
    ("wrong", "key", "why"),
    [
        ('colour = "red"', "colour", "Extra inputs are not permitted"),
        ("[rules]\nmin_miner = 4", "rules.min_miner", "Extra inputs are not permitted"),
        ("[cluster]\nmax_trainer = 4", "cluster.max_trainer", "Extra inputs are not permitted"),
        ('name = "My Tournament"', "name", "match pattern"),
        ('types = ["video"]', "types.0", "'text' or 'image'"),
        ("types = []", "types", "at least 1 item"),
        ('types = ["text", "text"]', "document", "types names a tournament type twice"),
        ('seed = "lucky"', "seed", "valid integer"),
        ('[sandbox]\nkind = "podman"', "sandbox.kind", "'docker', 'auto', 'bubblewrap' or 'process'"),
        ("[repositories]\nlicence = 'LICENSE'", "repositories", "licence and notice go together"),
        ("[cluster]\nmax_trainers = 0", "cluster.max_trainers", "greater than or equal to 1"),
        ('[base_contestants.text]\nhotkey = "b"', "base_contestants.text.coldkey", "Field required"),
        ("[rules]\npreset = 'fast'", "rules", "there is no preset 'fast': the presets are spec, god-2025-12"),
        ("[rules]\npreset = ['spec']", "rules", "there is no preset"),
        ("[rules]\npreset = 'god-2025-12'\nmin_miner = 4", "rules.min_miner", "Extra inputs are not permitted"),
        ("[rules]\nmin_miners = 1", "rules.min_miners", "greater than or equal to 2"),
        ("[rules]\nhours_scale = 0", "rules.hours_scale", "greater than 0"),
        ("[rules]\nhours_scale = inf", "rules.hours_scale", "finite"),
        ("[rules]\ngroup_advance = 9", "rules", "group_advance must not be above knockout_at_most"),
        ("[rules]\nboss_tasks = []", "rules", "boss_tasks and text_hours must not be empty"),
        ("[rules]\nboss_tasks = ['PaintTask']", "rules.boss_tasks.0", "'InstructTextTask'"),
        ("[rules]\nknockout_task_shares = {ChatTask = 0.5}", "rules", "sum to 0.5, they must sum to 1"),
        ("[rules]\nboss_model_range_b = [71, 12]", "rules", "boss_model_range_b must be a range"),
        ("[rules]\ngpu_threshold_for_2x_h100 = 50", "rules", "gpu thresholds must rise"),
    ],
)
def test_each_mistake_is_one_line_that_names_the_key(tmp_path: Path, wrong: str, key: str, why: str) -> None:
    said = complaint(write(tmp_path, f'state = "s"\nregistry = {{ miners = "m.json" }}\n{wrong}\n'))
    assert said.startswith(f"{key}: ")
    assert why in said


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    said = complaint(write(tmp_path, 'nmae = "x"\n[registry]\nanswer_deadline_s = -1\n'))
    for key in ("nmae: ", "state: Field required", "registry.miners: Field required", "registry.answer_deadline_s: "):
        assert key in said


@pytest.mark.parametrize("text", ["state = ", "state = 'a'\nstate = 'b'", "[registry", "{}"])
def test_what_is_not_toml_is_refused_with_the_place(tmp_path: Path, text: str) -> None:
    said = complaint(write(tmp_path, text))
    assert said.startswith("is not TOML: ")
    assert "(at " in said


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tournament.toml"
    path.write_bytes(b"name = '\xff'")
    assert complaint(path).startswith("is not TOML: ")


@pytest.mark.parametrize("wrong", ["state = 1", "state = 's'\nregistry = 3", "state = 's'\nregistry = {miners = 3}"])
def test_paths_of_another_type_are_a_complaint_like_any_other(tmp_path: Path, wrong: str) -> None:
    assert any(key in complaint(write(tmp_path, wrong)) for key in ("state: ", "registry: ", "registry.miners: "))


def test_a_file_that_is_not_there_or_a_folder_is_named(tmp_path: Path) -> None:
    assert complaint(tmp_path / "gone.toml") == "No such file or directory"
    assert complaint(tmp_path) == "Is a directory"


@pytest.mark.parametrize(
    ("given", "place"),
    [("", "state/data/artifacts"), ('artifacts = "kept"\n', "kept"), ('artifacts = "/kept"\n', "/kept")],
)
def test_artifacts_lie_in_a_folder(tmp_path: Path, given: str, place: str) -> None:
    assert load_settings(write(tmp_path, given + SMALL)).artifacts_at == str(tmp_path / place)


def test_artifacts_lie_elsewhere(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, 'artifacts = "s3://bucket/folder"\n' + SMALL))
    assert settings.artifacts_at == "s3://bucket/folder"


def test_artifacts_do_not_lie_where_ray_deletes(tmp_path: Path) -> None:
    text = 'artifacts = "/tmp/working_dir_files/kept"\n' + SMALL
    assert complaint(write(tmp_path, text)).startswith("artifacts lies in /tmp/working_dir_files/kept, a copy")


@pytest.mark.parametrize("limit", ["-1", "inf", "nan"])
def test_a_limit_is_a_number_that_can_be_reached(tmp_path: Path, limit: str) -> None:
    assert "retention.caches_gib" in complaint(write(tmp_path, SMALL + f"[retention]\ncaches_gib = {limit}\n"))
