"""Strangers' repositories, fetched once per (repo, commit) and kept by tree hash.

What `fetch` returns is byte for byte the tree of that commit: what is vetted there is what is built and trained.
Symbolic links become plain files that hold their target's name; nothing of the repository is executed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Generator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from tourney_ray.core.models import Sha1
from tourney_ray.core.quoting import shown
from tourney_ray.core.record import Record
from tourney_ray.effects.addresses import address_problem, is_commit, ref_problem
from tourney_ray.effects.file_lock import alone
from tourney_ray.effects.git import LockedGit
from tourney_ray.effects.git_answers import TreeEntry, chosen_commit, fault_of, tree_entries
from tourney_ray.effects.public_address import host_problem, pinned
from tourney_ray.errors import RepoRejected, StorageUnavailable

_NAME_BYTES = 255
_PATH_BYTES = 1024
"""Longest path within a tree; leaves room for the store's own prefix below the usual 4096."""
_UNCHANGED = "* -text -eol -ident -filter -working-tree-encoding\n"
"""Overrides the tree's own .gitattributes: files are written as they are stored."""


class FetchedRepo(Record):
    """A commit's tree on this machine."""

    repo: str
    commit: Sha1
    tree_hash: Sha1
    path: Path
    """The tree's folder, for reading only; the same tree is never fetched twice."""


@dataclass(frozen=True)
class RepoStore:
    """Trees under `root/trees/{tree_hash}`; safe for several threads and processes of one machine."""

    root: Path
    allowed_hosts: tuple[str, ...] = ("github.com", "gitlab.com", "huggingface.co")
    """`host` or `host:port`; one given as an IP address may be private, a name must resolve to public addresses."""
    allow_file: bool = False
    """Whether `file://` and absolute paths, that is the operator's own repositories, may be fetched."""
    deadline_s: float = 120.0
    """Wall-clock seconds for one fetch, all its commands together."""
    byte_cap: int = 2 * 2**30
    """Bytes of the transfer, and of all files of the tree."""
    file_cap: int = 50_000

    def __post_init__(self) -> None:
        """Make `root` absolute: git is started in a folder of its own."""
        object.__setattr__(self, "root", self.root.absolute())

    @property
    def trees(self) -> Path:
        """The folder of the trees, each under its tree hash."""
        return self.root / "trees"

    @property
    def work(self) -> Path:
        """The folder of fetches under way, each with a lock beside it."""
        return self.root / "work"

    def deciding(self) -> AbstractContextManager[None]:
        """To be held by whoever takes a tree into use, or removes one that has long been out of use."""
        return alone(self.root / "trees.lock")

    def fetch(self, repo: str, ref: str) -> FetchedRepo:
        """The tree of `repo` at `ref`, a full SHA or a branch, tag or unambiguous short SHA, resolved now.

        Raises `RepoRejected` (`RepoUnreachable` when the host did not answer) and `StorageUnavailable`.
        """
        protocol = self._protocol(repo, ref)
        key = hashlib.sha256(f"{repo}\n{ref}".encode()).hexdigest()
        try:
            if is_commit(ref) and (kept := self.kept(repo, ref.lower())):
                return kept
            with self._alone(key) as folder:
                ends_at = time.monotonic() + self.deadline_s
                git = LockedGit(folder / "git", protocol, ends_at, pinned(repo) if protocol == "https" else "")
                return _Fetch(self, git, repo, ref).tree(folder / "tree")
        except TimeoutError as error:
            raise fault_of(f"{shown(repo)} at {shown(ref)}", f"timed out after {self.deadline_s:g} s") from error
        except OSError as error:
            raise StorageUnavailable(f"{shown(repo)} at {shown(ref)}: {error.strerror} in {self.root}") from error

    def keep(self, repo: str, commit: str, tree_hash: str, tree: Path) -> FetchedRepo:
        """Move the finished `tree` to its place, unless it is there already, and remember where the commit leads."""
        place = self.trees / tree_hash
        place.parent.mkdir(parents=True, exist_ok=True)
        with self.deciding():
            if not place.exists():
                os.replace(tree, place)
            _use(place)
        record = FetchedRepo(repo=repo, commit=commit, tree_hash=tree_hash, path=place)
        note = self._note(repo, commit)
        note.parent.mkdir(parents=True, exist_ok=True)
        draft = tree.with_name("note")
        draft.write_text(tree_hash)
        draft.replace(note)
        return record

    def _protocol(self, repo: str, ref: str) -> str:
        what = f"{shown(repo)} at {shown(ref)}"
        if problem := address_problem(repo):
            raise RepoRejected(f"{what}: the address {problem}")
        if problem := ref_problem(ref):
            raise RepoRejected(f"{what}: the commit {problem}")
        if not repo.startswith("https://"):
            if not self.allow_file:
                raise RepoRejected(f"{what}: repositories on this machine's disk are not accepted", "use https://")
            return "file"
        if problem := host_problem(repo, self.allowed_hosts):
            raise RepoRejected(f"{what}: {problem}")
        return "https"

    def kept(self, repo: str, commit: str) -> FetchedRepo | None:
        """The tree of a commit in full, when it was fetched before; asks nobody. It counts as used from now on."""
        note = self._note(repo, commit)
        if not note.is_file():
            return None
        tree_hash = note.read_text()
        place = self.trees / tree_hash
        with self.deciding():
            if not place.is_dir():
                return None
            _use(place)
        return FetchedRepo(repo=repo, commit=commit, tree_hash=tree_hash, path=place)

    def _note(self, repo: str, commit: str) -> Path:
        return self.root / "commits" / f"{commit}-{hashlib.sha256(repo.encode()).hexdigest()[:16]}"

    @contextlib.contextmanager
    def _alone(self, key: str) -> Generator[Path]:
        """An empty folder for this fetch of this (repo, ref) alone; what a killed one left is removed first."""
        folder = self.work / key
        with alone(folder.with_name(f"{key}.lock")):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)


def _use(tree: Path) -> None:
    with contextlib.suppress(PermissionError):  # only its age is wrong then
        os.utime(tree)


@dataclass(frozen=True)
class _Fetch:
    """One fetch under way, in a folder of its own."""

    store: RepoStore
    git: LockedGit
    repo: str
    ref: str

    def tree(self, folder: Path) -> FetchedRepo:
        """Resolve, transfer, measure, then write the tree to `folder` and keep it."""
        self._run("init", "--quiet", "--bare", "--template=")
        commit = self.ref.lower() if is_commit(self.ref) else self._resolve()
        if kept := self.store.kept(self.repo, commit):
            return kept
        self._transfer(commit)
        tree_hash = self._run("rev-parse", "--verify", f"{commit}^{{tree}}").decode().strip()
        self._measure(commit, tree_entries(self._run("ls-tree", "-r", "-l", "-z", "--full-tree", commit)))
        self._write(tree_hash, folder)
        return self.store.keep(self.repo, commit, tree_hash, folder)

    def _resolve(self) -> str:
        heads = self._run("ls-remote", "--quiet", "--", self.repo, "HEAD", "refs/heads/*", "refs/tags/*")
        if (commit := chosen_commit(heads.decode("utf-8", "replace"), self.ref)) is None:
            raise self._rejected(f"has no branch, tag or commit {shown(self.ref)}")
        return commit

    def _transfer(self, commit: str) -> None:
        options = ("--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head")
        self._run("fetch", *options, "--", self.repo, commit, file_bytes=self.store.byte_cap)
        if self._run("cat-file", "-t", commit).strip() != b"commit":
            raise self._rejected(f"{commit} is not a commit")

    def _measure(self, commit: str, entries: list[TreeEntry]) -> None:
        if len(entries) > self.store.file_cap:
            raise self._rejected(f"has {len(entries)} files, more than {self.store.file_cap}")
        if (size := sum(entry.size for entry in entries)) > self.store.byte_cap:
            raise self._rejected(f"has {size} bytes of files, more than {self.store.byte_cap}")
        if _folders(entries, self.store.file_cap) > self.store.file_cap:
            raise self._rejected(f"has more than {self.store.file_cap} folders")
        for entry in entries:
            if entry.mode == "160000":
                raise self._rejected(f"{shown(entry.path)} is a submodule, which is not fetched")
            if len(entry.path) > _PATH_BYTES or any(len(name) > _NAME_BYTES for name in entry.path.split(b"/")):
                raise self._rejected(f"the name {shown(entry.path, 60)} is too long")

    def _write(self, tree_hash: str, folder: Path) -> None:
        (self.git.git_dir / "info").mkdir(exist_ok=True)
        (self.git.git_dir / "info" / "attributes").write_text(_UNCHANGED)
        folder.mkdir()
        cap = self.store.byte_cap
        self._run("read-tree", tree_hash, file_bytes=cap)
        self._run("checkout-index", "--all", "--quiet", work_tree=folder, file_bytes=cap)
        for place, _, names in os.walk(folder):
            for name in names:
                path = Path(place, name)
                path.chmod(path.stat().st_mode & 0o555)

    def _run(self, *args: str, work_tree: Path | None = None, file_bytes: int | None = None) -> bytes:
        bounds = {} if file_bytes is None else {"file_bytes": file_bytes}
        run = self.git.run(*args, work_tree=work_tree, **bounds)
        if run.too_big:
            raise self._rejected(f"is too large: git {args[0]} passed its limit of bytes")
        if run.status != 0:
            raise fault_of(f"{shown(self.repo)} at {shown(self.ref)}", run.err)
        return run.out

    def _rejected(self, reason: str) -> RepoRejected:
        return RepoRejected(f"{shown(self.repo)} at {shown(self.ref)}: {reason}")


def _folders(entries: list[TreeEntry], enough: int) -> int:
    """How many folders these files lie in, counted up to some more than `enough`: one tree may be named many times."""
    found: set[bytes] = set()
    for entry in entries:
        folder = entry.path.rpartition(b"/")[0]
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition(b"/")[0]
        if len(found) > enough:
            break
    return len(found)
