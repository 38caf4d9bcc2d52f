"""14: which tree a published commit has (RULES §2, §10): the frozen one, whatever the machine's git is set to."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.effects.builders_repos import commit_all, git, make_repo, write_tree
from tests.golden.harness import Adapter, Fixed
from tourney_ray.effects.repos import RepoStore
from tourney_ray.errors import RepoRejected

NOT_PUBLISHED = {"uploaded": False}
UNKNOWN = "0" * 40


def frozen_tree(given: Any) -> Any:
    """What is published of a repository with an old and a new commit; without a commit, the branch as it is now."""
    with TemporaryDirectory() as folder:
        origin = Path(folder) / "origin"
        old = make_repo(origin, {"a": "1"})
        write_tree(origin, {"b": "1", "a": "2"})
        new = commit_all(origin)
        git(origin, "branch", "-M", given["default_branch"])
        ref = {"old": old, "new": new, "bad": UNKNOWN, None: given["default_branch"]}[given["commit"]]
        try:
            tree = RepoStore(Path(folder) / "store", allow_file=True).fetch(str(origin), ref).path
        except RepoRejected:
            return NOT_PUBLISHED
        files = sorted(path.name for path in tree.iterdir())
        return {"uploaded": True, "files": files, "a": (tree / "a").read_text()}


def identity_is_ours(given: Any, recorded: Any) -> Fixed | None:
    """No identity or branch of this machine's git matters: a known commit is published."""
    old, new = ({"uploaded": True, "files": files, "a": a} for files, a in ((["a"], "1"), (["a", "b"], "2")))
    due = {"old": old, "new": new, None: new}.get(given["commit"])
    return Fixed("§10", due) if due else None


def tree_of(output: Any) -> Any:
    """Of a recorded upload: whether it happened, and with which files."""
    return {key: output[key] for key in ("uploaded", "files", "a")} if output["uploaded"] else NOT_PUBLISHED


ADAPTERS = {"14_backup_upload": Adapter(frozen_tree, identity_is_ours, tree_of)}
