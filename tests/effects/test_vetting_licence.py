"""What the recorded vectors of licences leave open; those are compared in `tests/golden`."""

from __future__ import annotations

from pathlib import Path

from tests.effects.builders_repos import HONEST_TREE, write_tree
from tests.effects.licence_trees import POLICY, TEXT
from tourney_ray.effects.vetting import Rule, vet


def test_broken_link_of_the_licence_s_name_is_refused(tmp_path: Path) -> None:
    write_tree(tmp_path, {**HONEST_TREE, "LICENSE": POLICY.licence, "NOTICE": POLICY.notice})
    assert vet(tmp_path, TEXT, POLICY) == []
    (tmp_path / "LICENSE.md").symlink_to("nowhere")
    assert [(one.file, one.rule, one.detail) for one in vet(tmp_path, TEXT, POLICY)] == [
        ("LICENSE.md", Rule.LICENCE, "symbolic links are refused")
    ]
