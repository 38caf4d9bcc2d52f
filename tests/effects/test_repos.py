"""Fetching with real git: from folders, and over https from git's own server on 127.0.0.1."""

from __future__ import annotations

import os
import select
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.effects.builders_repos import (
    HONEST_TREE,
    commit_all,
    files_of,
    git,
    head,
    leftovers,
    make_repo,
    rejection,
    write_tree,
)
from tourney_ray.effects.git_answers import RepoUnreachable
from tourney_ray.effects.repos import FetchedRepo, RepoStore
from tourney_ray.errors import StorageUnavailable

ABSENT = "f" * 40


@pytest.fixture
def store(tmp_path: Path) -> RepoStore:
    return RepoStore(tmp_path / "store", allow_file=True)


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    make_repo(tmp_path / "miner")
    return tmp_path / "miner"


def test_fetch_gives_exactly_the_commit_s_tree(store: RepoStore, repo: Path) -> None:
    commit, tree = head(repo), head(repo, "HEAD^{tree}")
    fetched = store.fetch(str(repo), commit)
    assert fetched == FetchedRepo(repo=str(repo), commit=commit, tree_hash=tree, path=store.root / "trees" / tree)
    assert files_of(fetched.path) == {name: str(text).encode() for name, text in HONEST_TREE.items()}
    assert leftovers(store) == []


def test_executable_bit_is_kept_and_nothing_is_writable(store: RepoStore, repo: Path) -> None:
    (repo / "run.sh").write_text("#!/bin/sh\n")
    (repo / "run.sh").chmod(0o755)
    tree = store.fetch(str(repo), commit_all(repo)).path
    modes = {path.name: path.stat().st_mode & 0o777 for path in tree.rglob("*") if path.is_file()}
    assert modes["run.sh"] & 0o111
    assert not modes["train.py"] & 0o111
    assert not any(mode & 0o222 for mode in modes.values())


def test_relative_root(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fetched = RepoStore(Path("here"), allow_file=True).fetch(str(repo), head(repo))
    assert fetched.path == tmp_path / "here" / "trees" / fetched.tree_hash


def test_a_commit_is_fetched_once(store: RepoStore, repo: Path) -> None:
    commit = head(repo)
    first = store.fetch(str(repo), commit)
    shutil.rmtree(repo)
    assert store.fetch(str(repo), commit) == first
    assert store.fetch(str(repo), commit.upper()) == first


def test_a_lost_tree_is_fetched_again(store: RepoStore, repo: Path) -> None:
    first = store.fetch(str(repo), head(repo))
    shutil.rmtree(first.path)
    assert store.fetch(str(repo), head(repo)) == first
    assert files_of(first.path)


def test_leftovers_of_a_killed_fetch_are_cleared(store: RepoStore, repo: Path) -> None:
    first = store.fetch(str(repo), head(repo))
    key = next((store.root / "work").glob("*.lock")).stem
    write_tree(store.root / "work" / key, {"tree/half": "x", "git/half": "x"})
    shutil.rmtree(first.path)
    assert store.fetch(str(repo), head(repo)) == first
    assert "half" not in files_of(first.path)


def test_same_tree_from_two_repositories_is_kept_once(store: RepoStore, repo: Path, tmp_path: Path) -> None:
    make_repo(tmp_path / "copy", {"other": "x"})
    git(tmp_path / "copy", "rm", "--quiet", "other")
    write_tree(tmp_path / "copy", HONEST_TREE)
    commit_all(tmp_path / "copy")
    one, two = store.fetch(str(repo), head(repo)), store.fetch(str(tmp_path / "copy"), head(tmp_path / "copy"))
    assert one.commit != two.commit
    assert one.path == two.path


def test_concurrent_fetches_agree(store: RepoStore, repo: Path) -> None:
    with ThreadPoolExecutor(6) as pool:
        fetched = list(pool.map(lambda ref: store.fetch(str(repo), ref), [head(repo)] * 3 + ["main"] * 3))
    assert len(set(fetched)) == 1
    assert files_of(fetched[0].path)


def test_names_are_resolved_to_the_commit_they_mean(store: RepoStore, repo: Path) -> None:
    first = head(repo)
    git(repo, "tag", "v1")
    git(repo, "tag", "--annotate", "--message=x", "v2")
    git(repo, "branch", "feature/x")
    (repo / "new").write_text("x")
    second = commit_all(repo)
    expected = {"v1": first, "v2": first, "feature/x": first, "refs/heads/feature/x": first}
    expected |= {"main": second, "HEAD": second, second[:10]: second, second[:7].upper(): second}
    assert {ref: store.fetch(str(repo), ref).commit for ref in expected} == expected


def test_older_commit_is_fetched_although_the_branch_moved_on(store: RepoStore, repo: Path) -> None:
    first = head(repo)
    (repo / "train.py").write_text("moved = 1\n")
    commit_all(repo)
    assert b"moved" not in files_of(store.fetch(str(repo), first).path)["train.py"]


def test_file_address(store: RepoStore, repo: Path) -> None:
    assert store.fetch(f"file://{repo}", "main").commit == head(repo)


@pytest.mark.parametrize("ref", [ABSENT, "nobranch", "abcdef1"])
def test_missing_commits_are_the_miner_s_fault(store: RepoStore, repo: Path, ref: str) -> None:
    assert f"{repo} at {ref}: " in rejection(store, str(repo), ref)


def test_missing_repository(store: RepoStore, tmp_path: Path) -> None:
    assert "does not exist" in rejection(store, str(tmp_path / "absent"), ABSENT)


@pytest.mark.parametrize("kind", ["tree", "tag"])
def test_objects_that_are_not_commits_are_refused(store: RepoStore, repo: Path, kind: str) -> None:
    git(repo, "tag", "--annotate", "--message=x", "v1")
    sha = head(repo, "HEAD^{tree}" if kind == "tree" else "v1")
    rejection(store, str(repo), sha)


def test_disk_repositories_only_where_the_operator_allows_them(store: RepoStore, repo: Path) -> None:
    strict = replace(store, allow_file=False)
    for address in (str(repo), f"file://{repo}"):
        assert "not accepted" in rejection(strict, address, head(repo))
    assert not store.root.exists()


@pytest.mark.parametrize(
    ("address", "ref", "said"),
    [
        ("https://evil.example/a/b", ABSENT, "host evil.example is not one of github.com"),
        ("https://github.com.evil.example/a/b", ABSENT, "is not one of"),
        ("https://github.com:444/a/b", ABSENT, "host github.com:444 is not one of"),
        ("https://x@github.com/a/b", ABSENT, "must not carry credentials"),
        ("http://github.com/a/b", ABSENT, "must start with https://"),
        ("ext::sh -c id", ABSENT, "the address must not hold spaces"),
        ("--upload-pack=id", ABSENT, "must start with https://"),
        ("https://github.com/a/b", "--upload-pack=id", "the commit must be"),
        ("https://github.com/a/b", "a\x1b[2Jb", "the commit must be"),
    ],
)
def test_addresses_and_refs_refused_before_git_runs(store: RepoStore, address: str, ref: str, said: str) -> None:
    assert said in rejection(store, address, ref)
    assert not store.root.exists()


def test_symbolic_links_become_files_and_point_nowhere(store: RepoStore, repo: Path) -> None:
    (repo / "link").symlink_to("/etc/passwd")
    (repo / "up").symlink_to("..")
    tree = store.fetch(str(repo), commit_all(repo)).path
    assert not (tree / "link").is_symlink()
    assert (tree / "link").read_text() == "/etc/passwd"
    assert (tree / "up").is_file()


def test_submodules_are_refused_by_name(store: RepoStore, repo: Path) -> None:
    git(repo, "update-index", "--add", "--cacheinfo", f"160000,{head(repo)},third_party/lib")
    git(repo, "commit", "--quiet", "--message=x")
    assert "third_party/lib is a submodule" in rejection(store, str(repo), head(repo))


def test_attributes_filters_and_hooks_change_and_run_nothing(
    store: RepoStore, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = tmp_path / "ran"
    user = tmp_path / "home"
    write_tree(
        user,
        {
            ".gitconfig": f'[filter "x"]\n smudge = touch {ran}\n required = true\n[core]\n autocrlf = true\n'
            f"[init]\n templateDir = {user}/template\n",
            "template/hooks/post-checkout": f"#!/bin/sh\ntouch {ran}\n",
        },
    )
    (user / "template/hooks/post-checkout").chmod(0o755)
    monkeypatch.setenv("HOME", str(user))
    attributes = "*.md filter=x\n*.py text eol=crlf ident\n*.txt working-tree-encoding=UTF-16\n"
    files = {".gitattributes": attributes, "a.py": "# $Id$\n", "b.txt": "x\n"}
    write_tree(repo, {name: text for name, text in files.items() if name != ".gitattributes"})
    commit_all(repo)
    write_tree(repo, {".gitattributes": attributes})
    git(repo, "add", ".gitattributes")
    git(repo, "commit", "--quiet", "--message=x")
    found = files_of(store.fetch(str(repo), head(repo)).path)
    assert {name: found[name].decode() for name in files} == files
    assert not ran.exists()


def test_environment_of_the_caller_does_not_steer_git(
    store: RepoStore, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_SSH_COMMAND"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "core.symlinks")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "true")
    (repo / "link").symlink_to("/etc/passwd")
    monkeypatch.delenv("GIT_DIR")
    fetched = store.fetch(str(repo), commit_all(repo))
    assert not (fetched.path / "link").is_symlink()


def test_too_many_files(store: RepoStore, repo: Path) -> None:
    assert "has 3 files, more than 2" in rejection(replace(store, file_cap=2), str(repo), head(repo))


def test_too_many_folders(store: RepoStore, repo: Path) -> None:
    """One tree named many times over is small to fetch, and millions of folders on a disk."""
    (repo / "a/b/c/d/e").mkdir(parents=True)
    (repo / "a/b/c/d/e/x").touch()
    commit = commit_all(repo)
    assert "has more than 4 folders" in rejection(replace(store, file_cap=4), str(repo), commit)


def test_too_many_bytes_of_files_that_compress_well(store: RepoStore, repo: Path) -> None:
    (repo / "zeros").write_bytes(bytes(8 * 2**20))
    commit = commit_all(repo)
    assert "bytes of files, more than 4194304" in rejection(replace(store, byte_cap=4 * 2**20), str(repo), commit)


def test_transfer_is_cut_off_at_the_cap(store: RepoStore, repo: Path) -> None:
    (repo / "noise").write_bytes(os.urandom(8 * 2**20))
    commit = commit_all(repo)
    assert "is too large: git fetch" in rejection(replace(store, byte_cap=2**20), str(repo), commit)


def test_tree_that_multiplies_itself(store: RepoStore, repo: Path) -> None:
    blob = git(repo, "hash-object", "-w", "--stdin", stdin=b"boom\n")
    tree = git(repo, "mktree", stdin="".join(f"100644 blob {blob}\tf{n}\n" for n in range(10)).encode())
    for _ in range(9):
        tree = git(repo, "mktree", stdin="".join(f"040000 tree {tree}\td{n}\n" for n in range(10)).encode())
    commit = git(repo, "commit-tree", "-m", "x", tree)
    git(repo, "update-ref", "refs/heads/bomb", commit)
    began = time.monotonic()
    assert "is too large: git ls-tree" in rejection(replace(store, deadline_s=60), str(repo), commit)
    assert time.monotonic() - began < 30


def test_names_that_leave_the_tree_are_refused(store: RepoStore, repo: Path) -> None:
    blob = git(repo, "hash-object", "-w", "--stdin", stdin=b"x\n")
    for name in ("..", ".git", "x" * 300):
        raw = b"100644 " + name.encode() + b"\0" + bytes.fromhex(blob)
        tree = git(repo, "hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=raw)
        commit = git(repo, "commit-tree", "-m", "x", tree)
        git(repo, "update-ref", "refs/heads/bad", commit)
        rejection(store, str(repo), commit)


def test_git_missing_is_the_platform_s_fault(
    store: RepoStore, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = head(repo)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StorageUnavailable, match="git is not installed"):
        store.fetch(str(repo), commit)


def test_unusable_root_is_the_platform_s_fault(repo: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageUnavailable, match="Not a directory"):
        RepoStore(tmp_path / "file", allow_file=True).fetch(str(repo), head(repo))


def test_every_process_of_a_hung_fetch_is_killed(
    store: RepoStore, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids, commit = tmp_path / "pids", head(repo)
    hung = write_tree(tmp_path / "bin", {"git": f"#!/bin/sh\nsleep 60 &\necho $$ $! > {pids}\nwait\n"})
    (hung / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{hung}:{os.environ['PATH']}")
    with pytest.raises(RepoUnreachable, match="timed out"):
        replace(store, deadline_s=0.5).fetch(str(repo), commit)
    assert len(pids.read_text().split()) == 2
    assert not any(_lives(int(pid)) for pid in pids.read_text().split())


def _lives(pid: int) -> bool:
    """Whether the process goes on, and does not end within seconds, as a killed one does once it has its turn."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        ended, _, _ = select.select([process], [], [], 20.0)
        return not ended
    finally:
        os.close(process)
