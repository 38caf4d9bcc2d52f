"""What the engine makes of a stranger's tree: links, archives, and readings of a dockerfile that are not ours."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from tests.docker.yard import LIMITS, MIB, Yard
from tourney_ray.errors import EngineDown, ImageBuildFailed

BASE = "FROM tourney/tiny-base\n"


def test_links_that_lead_out_of_the_tree_show_nothing_of_the_node(yard: Yard, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of the node")
    tree = yard.tree()
    for name, target in {"out": tmp_path / "secret", "up": "../secret", "folder": tmp_path}.items():
        (tmp_path / tree / name).symlink_to(target)
    links = "RUN test -L /all/out && test -L /all/up && test -L /all/folder\n"
    nothing = "RUN ! test -e /all/out && ! test -e /all/up && ! test -e /all/folder\n"
    built = yard.build(f"{BASE}COPY . /all/\n{links}{nothing}", tree=tree)
    assert built.image_id
    for name in ("out", "up", "folder/secret"):
        with pytest.raises(ImageBuildFailed, match=r"COPY|not found|no such file"):
            yard.build(f"{BASE}COPY {name} /got\nRUN cat /got\n", tree=_like(yard, tree))


def _like(yard: Yard, tree: str) -> str:
    """Another tree with the same links."""
    other = yard.tree()
    for path in (yard.folder / tree).iterdir():
        if path.is_symlink():
            (yard.folder / other / path.name).symlink_to(path.readlink())
    return other


def test_a_list_of_what_to_leave_out_is_not_read_through_a_link(yard: Yard) -> None:
    tree = yard.tree()
    (yard.folder / tree / ".dockerignore").symlink_to("/etc/passwd")
    with pytest.raises(ImageBuildFailed, match=r"\.dockerignore is not a plain file"):
        yard.build(BASE, tree=tree)


def test_a_plain_list_of_what_to_leave_out_is_heeded(yard: Yard) -> None:
    files = {".dockerignore": b"secret\n", "secret": b"x", "x": b"x"}
    assert yard.build(f"{BASE}COPY . /all/\nRUN test -f /all/x && ! test -e /all/secret\n", files=files).image_id


def test_a_bomb_is_not_unpacked(yard: Yard) -> None:
    """Terabytes of a sparse file in some kilobytes."""
    buffer = io.BytesIO()
    with gzip.open(buffer, "wb") as packed, tarfile.open(fileobj=packed, mode="w|") as tar:
        info = tarfile.TarInfo("zeros")
        info.size = 32 * MIB
        tar.addfile(info, io.BytesIO(bytes(info.size)))
    with pytest.raises(ImageBuildFailed, match="the dockerfile unpacks an archive"):
        yard.build(f"{BASE}ADD bomb /\n", files={"bomb": buffer.getvalue()})
    assert yard.build(f"{BASE}COPY bomb /\nRUN test -f /bomb\n", files={"bomb": buffer.getvalue()}).image_id


def test_a_tree_that_is_too_large_is_not_sent(yard: Yard) -> None:
    with pytest.raises(ImageBuildFailed, match="the repository has more than"):
        yard.build(BASE, replace(LIMITS, context_bytes=1000), files={"x": bytes(1001)})
    with pytest.raises(ImageBuildFailed, match="the repository has more than 3 files and folders"):
        yard.build(BASE, replace(LIMITS, context_entries=3), files={"a/b": b"", "c": b""})


ELSEWHERE = {
    "a flag in escapes": BASE + "COPY --fr\\om=ghost /a /b\n",
    "a flag behind a letter": BASE + "COPY --chown=\u00e0--from=ghost /a /b\n",
    "a stage within itself": "FROM tourney/tiny-base AS ghost\nCOPY --from=ghost /bin/sh /b\n",
    "an argument said twice": "ARG X=tourney/tiny-base\nARG X\nFROM ${X:-ghost}\n",
    "an argument in quotes": 'ARG X="a Y=tourney/tiny-base b"\nFROM ${Y:-ghost}\n',
    "an argument of its own line": "ARG X=tourney/tiny-base Y=${X:-ghost}\nFROM $Y\n",
    "an argument that begins with a digit": "ARG 1a=tourney/tiny-base\nFROM $1a\n",
    "another platform": "FROM --platform=linux/s390x tourney/tiny-base\n",
    "a trigger within": "FROM tourney/tiny-base AS a\nONBUILD COPY --from=ghost /a /b\nFROM a\n",
    "syntax": "# syntax=ghost/frontend\n" + BASE,
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_nothing_is_fetched_whatever_way_it_is_asked_for(yard: Yard, name: str) -> None:
    """Each of these has this engine look for an image elsewhere, or would have another do so."""
    with pytest.raises(ImageBuildFailed, match=r"^(line \d of )?the dockerfile .*"):
        yard.build(ELSEWHERE[name])
    assert not yard.log(yard.trees[-1]).exists()


def test_the_nodes_own_platform_may_be_named(yard: Yard) -> None:
    image = yard.engine.client.images.get("tourney/tiny-base").attrs
    platform = f"{image['Os']}/{image['Architecture']}"
    assert yard.build(f"FROM --platform={platform} tourney/tiny-base\n").image_id


def test_a_base_that_unpacks_what_miners_have_is_the_operators_fault(yard: Yard) -> None:
    folder = yard.folder / f"operator-{os.urandom(4).hex()}"
    folder.mkdir()
    (folder / "Dockerfile").write_text(BASE + "ONBUILD ADD data /data\n")
    yard.engine.client.images.build(path=str(folder), rm=True, tag="tourney/adding", network_mode="none")
    with pytest.raises(EngineDown, match="ONBUILD ADD"):
        yard.build("FROM tourney/adding\n")
    yard.engine.client.api.remove_image("tourney/adding")
