"""Fetching over https from git's own server on 127.0.0.1, and which addresses a host may have."""

from __future__ import annotations

import pickle
import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.effects.builders_repos import HONEST_TREE, files_of, head, https_git, leftovers, make_repo, rejection
from tourney_ray.effects.git_answers import RepoUnreachable
from tourney_ray.effects.public_address import pinned
from tourney_ray.effects.repos import RepoStore

ABSENT = "f" * 40


@pytest.fixture
def store(tmp_path: Path) -> RepoStore:
    return RepoStore(tmp_path / "store", allow_file=True)


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    make_repo(tmp_path / "miner")
    return tmp_path / "miner"


@pytest.fixture
def server(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[str]:
    with https_git(tmp_path, monkeypatch.setenv) as host:
        yield host


def test_https(store: RepoStore, repo: Path, server: str) -> None:
    online = replace(store, allow_file=False, allowed_hosts=(server,))
    by_name = online.fetch(f"https://{server}/miner", "main")
    assert by_name.commit == head(repo)
    assert files_of(by_name.path)["train.py"] == HONEST_TREE["train.py"].encode()
    assert online.fetch(f"https://{server}/miner", head(repo)) == by_name


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("moved/miner", "redirects elsewhere"),
        ("private/miner", "does not exist or is not public"),
        ("gone/miner", "does not exist or is not public"),
    ],
)
def test_https_refusals(store: RepoStore, server: str, place: str, said: str) -> None:
    online = replace(store, allowed_hosts=(server,))
    assert said in rejection(online, f"https://{server}/{place}", ABSENT)


def test_missing_commit_over_https(store: RepoStore, server: str) -> None:
    online = replace(store, allowed_hosts=(server,))
    assert "no such commit" in rejection(online, f"https://{server}/miner", ABSENT)


def test_server_error_is_told_apart_from_a_refusal(store: RepoStore, server: str) -> None:
    with pytest.raises(RepoUnreachable, match="500"):
        replace(store, allowed_hosts=(server,)).fetch(f"https://{server}/broken/miner", ABSENT)


def test_untrusted_certificate(store: RepoStore, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GIT_SSL_CAINFO")
    with pytest.raises(RepoUnreachable, match="certificate"):
        replace(store, allowed_hosts=(server,)).fetch(f"https://{server}/miner", ABSENT)


def test_silent_server_ends_at_the_deadline(store: RepoStore, server: str) -> None:
    hasty = replace(store, allowed_hosts=(server,), deadline_s=1.0)
    began = time.monotonic()
    with pytest.raises(RepoUnreachable, match="timed out after 1 s"):
        hasty.fetch(f"https://{server}/silent/miner", ABSENT)
    assert time.monotonic() - began < 5
    assert leftovers(store) == []


def test_names_resolve_to_public_addresses_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*addresses: str) -> None:
        rows = [(0, 0, 0, "", (address, 443)) for address in addresses]
        monkeypatch.setattr("socket.getaddrinfo", lambda *_args, **_named: rows)

    resolve("140.82.121.3", "10.0.0.1", "2606:50c0:8000::154")
    assert pinned("https://github.com/a/b") == "github.com:443:140.82.121.3,[2606:50c0:8000::154]"
    resolve("127.0.0.1", "169.254.169.254", "::1")
    with pytest.raises(RepoUnreachable, match=r"github\.com has no public address"):
        pinned("https://github.com/a/b")
    assert pinned("https://127.0.0.1:8443/a/b") == ""


def test_pinned_addresses_reach_git(store: RepoStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tourney_ray.effects.repos.pinned", lambda _repo: "nowhere.invalid:1:127.0.0.1")
    online = replace(store, allowed_hosts=("nowhere.invalid:1",))
    with pytest.raises(RepoUnreachable, match=r"[Ff]ailed to connect"):
        online.fetch("https://nowhere.invalid:1/a/b", ABSENT)


def test_unreachable_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(RepoUnreachable("x", "y")))
    assert (type(error), error.message, error.hint) == (RepoUnreachable, "x", "y")
