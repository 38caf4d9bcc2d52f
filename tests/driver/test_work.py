"""What workers do before anything trains, with real miners' servers and real git: each refusal with its reason."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.driver.scripted import RULES
from tests.effects.builders_repos import HONEST_TREE, http, make_repo, saying, tcp_server
from tourney_ray.config import Settings
from tourney_ray.core.commands import AskMiners
from tourney_ray.core.models import Answer, Entrant, Miner, Refusal, TaskType, TournamentType
from tourney_ray.core.rules import Rules
from tourney_ray.driver import work
from tourney_ray.errors import ConfigError, RepoRejected
from tourney_ray.samples.repositories import SampleRepository, write_base_contestant, write_sample_repositories
from tourney_ray.samples.servers import sample_key, serve_samples

ASK = AskMiners("t", TournamentType.TEXT, 1, frozenset())


# --- what can be played


@pytest.mark.parametrize("rules", [RULES, Rules(), RULES.model_copy(update={"group_task": TaskType.CHAT})])
def test_text_tournaments_can_be_played(settings: Settings, rules: Rules) -> None:
    work.check_playable(settings.model_copy(update={"rules": rules}))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"rules": Rules()}, "DpoTask, GrpoTask"),
        ({"rules": RULES.model_copy(update={"group_task": TaskType.CHAT})}, "ChatTask"),
        ({"rules": RULES.model_copy(update={"boss_tasks": (TaskType.GRPO,)})}, "GrpoTask"),
        ({"types": (TournamentType.TEXT, TournamentType.IMAGE)}, "ImageTask"),
    ],
)
def test_tasks_that_cannot_be_evaluated_are_refused_by_name(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, changes: Mapping[str, Any], named: str
) -> None:
    monkeypatch.setattr(work, "evaluated_types", lambda: {TaskType.INSTRUCT})
    unshared = RULES.model_copy(update={"knockout_task_shares": {TaskType.INSTRUCT: 1.0, TaskType.GRPO: 0.0}})
    work.check_playable(settings.model_copy(update={"rules": unshared}))
    with pytest.raises(ConfigError, match=f"the rules draw {named}, which this version cannot evaluate") as caught:
        work.check_playable(settings.model_copy(update=dict(changes)))
    assert "rules.boss_tasks" in caught.value.hint


# --- asking and vetting


def sample(path: Path, commit: str) -> SampleRepository:
    """A repository that is no sample, to be served like one."""
    return SampleRepository(path.name, path, commit, "", "")


def register(settings: Settings, miners: Sequence[Miner]) -> None:
    settings.registry.miners.write_text(json.dumps([miner.model_dump() for miner in miners]))


def miner(name: str, port: int) -> Miner:
    return Miner(hotkey=name, coldkey=f"c-{name}", ip="127.0.0.1", port=port)


async def test_good_ones_are_accepted_and_each_bad_one_is_refused_for_its_reason(
    settings: Settings, tmp_path: Path
) -> None:
    good = write_sample_repositories(tmp_path / "repos", 2)
    bare = tmp_path / "bare"
    bare_commit = make_repo(bare, {"train.py": "print()\n"})
    lost = sample(good[0].path, "0" * 40)
    with serve_samples([*good, sample(bare, bare_commit), lost]) as served, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        async with tcp_server(saying(b"\x00\xffrubbish\r\n\r\n")) as rubbish, tcp_server(saying(http(b"[1]"))) as odd:
            strangers = [miner("rubbish", rubbish), miner("odd", odd), miner("dead", closed.getsockname()[1])]
            no_such_commit = served[3].model_copy(update={"hotkey": "no-such-commit"})
            register(settings, [*strangers, *served[:3], no_such_commit])
            answers = await asyncio.to_thread(work.ask_and_vet, settings, ASK)
    reasons = [a.reason if isinstance(a, Refusal) else "" for a in answers]
    assert "not an HTTP answer" in reasons[0]
    assert "not a JSON object" in reasons[1]
    assert "no connection" in reasons[2]
    assert reasons[3:5] == ["", ""]
    assert f"{bare.as_uri()} at {bare_commit[:12]} was refused: " in reasons[5]
    assert "dockerfiles/standalone-text-trainer.dockerfile" in reasons[5]
    assert "0" * 40 in reasons[6]
    assert all(reason.isprintable() for reason in reasons)
    hotkeys = [m.hotkey for m in served[:3]]
    assert [a.hotkey for a in answers] == ["rubbish", "odd", "dead", *hotkeys, "no-such-commit"]
    assert [frozen(a) for a in answers[3:5]] == [(g.path.as_uri(), g.commit, g.tree_hash) for g in good]


def frozen(answer: Answer) -> tuple[str, str, str]:
    assert isinstance(answer, Entrant)
    return answer.repo, answer.commit, answer.tree_hash


def test_those_who_are_in_are_not_asked_again(settings: Settings, tmp_path: Path) -> None:
    samples = write_sample_repositories(tmp_path / "repos", 2)
    with serve_samples(samples) as served:
        register(settings, [*served, miner("dead", 1)])
    known = frozenset(m.hotkey for m in served)
    (answer,) = work.ask_and_vet(settings, AskMiners("t", TournamentType.TEXT, 2, known))
    assert answer.hotkey == "dead"


def test_a_registry_that_cannot_be_read_is_the_operators_mistake(settings: Settings) -> None:
    with pytest.raises(ConfigError, match=r"miners\.json: No such file"):
        work.ask_and_vet(settings, ASK)


def test_a_base_contestant_is_vetted_like_anyone_at_a_branch_that_is_resolved(
    settings: Settings, tmp_path: Path
) -> None:
    base = write_base_contestant(tmp_path)
    key = sample_key(base.name, "hotkey")
    vetted = work.vet_repository(settings, TournamentType.TEXT, key, "c", base.path.as_uri(), "main")
    assert frozen(vetted) == (base.path.as_uri(), base.commit, base.tree_hash)
    bad = make_repo(tmp_path / "bad", HONEST_TREE | {"train.py": "import base64\nexec(base64.b64decode('cGFzcw=='))\n"})
    with pytest.raises(RepoRejected, match=r"was refused: .*train\.py"):
        work.vet_repository(settings, TournamentType.TEXT, "h", "c", (tmp_path / "bad").as_uri(), bad)


# --- the licence


def asking_for_a_licence(settings: Settings, folder: Path) -> Settings:
    """Settings whose operator wants two texts in every repository."""
    licence, notice = folder / "LICENSE", folder / "NOTICE"
    licence.write_text("Do as you like.\n")
    notice.write_text("Nobody is liable.\n")
    repositories = settings.repositories.model_copy(update={"licence": licence, "notice": notice})
    return settings.model_copy(update={"repositories": repositories})


def test_a_repository_without_the_operators_licence_is_refused(settings: Settings, tmp_path: Path) -> None:
    base = write_base_contestant(tmp_path / "base")
    asking = asking_for_a_licence(settings, tmp_path)
    who = TournamentType.TEXT, "base", "cold", base.path.as_uri(), base.commit
    assert work.vet_repository(settings, *who).hotkey == "base"
    with pytest.raises(RepoRejected, match=r"licence asked for .*notice asked for"):
        work.vet_repository(asking, *who)


def test_a_licence_that_cannot_be_read_is_the_operators_mistake(settings: Settings, tmp_path: Path) -> None:
    asking = asking_for_a_licence(settings, tmp_path)
    (tmp_path / "NOTICE").unlink()
    with pytest.raises(ConfigError, match="NOTICE cannot be read"):
        work.licence_policy(asking)
