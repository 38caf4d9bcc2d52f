"""The sample miners' servers, asked over real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tourney_ray.core.models import Miner, TournamentType
from tourney_ray.effects.miners import Offer, ask_miners
from tourney_ray.samples.repositories import RECIPES, SampleRepository, write_sample_repositories
from tourney_ray.samples.servers import sample_key, serve_samples


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory, need: Callable[[str], str]) -> list[SampleRepository]:
    need("git")
    return write_sample_repositories(tmp_path_factory.mktemp("repositories"), 3)


def get(miner: Miner, path: str) -> httpx.Response:
    return httpx.get(f"http://{miner.ip}:{miner.port}{path}", trust_env=False, timeout=10)


@pytest.mark.parametrize("kind", list(TournamentType))
def test_each_answers_with_its_own_repository_and_commit(samples: list[SampleRepository], kind: TournamentType) -> None:
    with serve_samples(samples) as registry:
        answers = [get(miner, f"/training_repo/{kind.value}") for miner in registry]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert [answer.headers["content-type"] for answer in answers] == ["application/json"] * 3
    expected = [{"github_repo": f"file://{s.path}", "commit_hash": s.commit} for s in samples]
    assert [answer.json() for answer in answers] == expected


@pytest.mark.parametrize("path", ["/", "/training_repo", "/training_repo/video", "/training_repo/text/../../x"])
def test_anything_else_is_not_found(samples: list[SampleRepository], path: str) -> None:
    with serve_samples(samples[:1]) as (miner,):
        assert get(miner, path).status_code == 404
        assert get(miner, "/training_repo/text").status_code == 200, "it goes on answering"


def test_the_driver_understands_them(samples: list[SampleRepository]) -> None:
    with serve_samples(samples) as registry:
        offers = asyncio.run(ask_miners(registry, TournamentType.TEXT))
    expected = [Offer(repo=s.path.as_uri(), ref=s.commit) for s in samples]
    assert [offers[miner.hotkey] for miner in registry] == expected


def test_each_has_a_port_and_keys_of_its_own(samples: list[SampleRepository]) -> None:
    with serve_samples(samples) as registry:
        assert {miner.ip for miner in registry} == {"127.0.0.1"}
        assert len({miner.port for miner in registry}) == 3
        assert len({key for miner in registry for key in (miner.hotkey, miner.coldkey)}) == 6
        assert [miner.hotkey for miner in registry] == [sample_key(s.name, "hotkey") for s in samples]


def test_afterwards_nobody_answers(samples: list[SampleRepository]) -> None:
    with serve_samples(samples[:1]) as (miner,):
        assert get(miner, "/training_repo/text").status_code == 200
    with pytest.raises(httpx.ConnectError):
        get(miner, "/training_repo/text")


def test_they_stop_when_something_goes_wrong(samples: list[SampleRepository]) -> None:
    registry: list[Miner] = []

    def interrupted() -> None:
        with serve_samples(samples[:1]) as served:
            registry.extend(served)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with pytest.raises(httpx.ConnectError):
        get(registry[0], "/training_repo/text")


@pytest.mark.parametrize("kind", ["hotkey", "coldkey"])
def test_keys_are_as_long_as_real_ones_and_say_whose_they_are(kind: str) -> None:
    keys = [
        sample_key(name, kind)
        for name in (*RECIPES, "cosine-full-2", "a-name-that-is-as-long-as-a-key-can-be-and-longer")
    ]
    assert {len(key) for key in keys} == {48}
    assert all(key.isascii() and key.isalnum() for key in keys)
    assert keys[0].startswith("5CosineFull")
    assert len(set(keys)) == len(keys)
    assert keys[0] == sample_key(RECIPES[0], kind)
    for key in keys:
        Miner(hotkey=key, coldkey=key, ip="127.0.0.1", port=1)


def test_the_port_is_on_this_machine_alone(samples: list[SampleRepository]) -> None:
    with serve_samples(samples[:1]) as (miner,):
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            address, port = line.split()[1].split(":")
            if int(port, 16) == miner.port and line.split()[3] == "0A":
                assert address == "0100007F"
                break
        else:
            pytest.fail("nobody listens")
