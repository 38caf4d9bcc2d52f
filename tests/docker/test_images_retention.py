"""Images that go and images that stay, on a real engine."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.docker.bench import build
from tourney_ray.core.holdings import Holdings
from tourney_ray.effects.contract import dockerfile_at
from tourney_ray.effects.engine.build import BuiltImage, build_image
from tourney_ray.effects.engine.builder import BuildLimits
from tourney_ray.effects.engine.connection import Engine
from tourney_ray.effects.engine.images import ImageSweep, MinersImage, miners_images
from tourney_ray.effects.file_lock import alone
from tourney_ray.effects.retention import Mark, Swept
from tourney_ray.samples.base_image import ensure_base_image

MIB = 2**20
LIMITS = BuildLimits(deadline_s=60.0, mem_bytes=256 * MIB, pids=64, layer_bytes=64 * MIB)
NOTHING = Holdings(*[frozenset()] * 7, collecting_since=None)
LATER = timedelta(hours=1)


@dataclass
class Yard:
    """An engine with images that this test has built, each of 4 MiB of its own."""

    engine: Engine
    folder: Path
    built: list[BuiltImage] = field(default_factory=list[BuiltImage])

    def build(self, more: str = "") -> BuiltImage:
        tree = os.urandom(20).hex()
        source = self.folder / tree
        path = source / dockerfile_at("text")
        path.parent.mkdir(parents=True)
        path.write_text(f"FROM tourney/tiny-base\nRUN dd if=/dev/urandom of=/own bs=1M count=4\n{more}")
        log = self.folder / f"{tree}-text.log"
        self.built.append(build_image(self.engine, "text", tree, source, log, LIMITS))
        return self.built[-1]

    def sweep(
        self, *held: BuiltImage, most_bytes: int = 0, dry_run: bool = False, meanwhile: tuple[BuiltImage, ...] = ()
    ) -> Swept:
        """As of a moment long after all builds; `meanwhile` is needed, too, by the time of a removal."""
        mark = Mark(holding(*held), datetime.now(UTC) + LATER)
        return ImageSweep(self.engine, self.folder, lambda: holding(*held, *meanwhile)).run(mark, most_bytes, dry_run)

    def images(self) -> dict[str, MinersImage]:
        return {image.image_id: image for image in miners_images(self.engine)}

    def close(self) -> None:
        for image_id in self.images():
            self.engine.client.images.remove(image_id, force=True)


def holding(*held: BuiltImage) -> Holdings:
    return replace(NOTHING, images=frozenset((image.tree_hash, image.kind) for image in held))


def names(swept: Swept) -> list[str]:
    return [one.name for one in swept.removed]


@pytest.fixture
def yard(engine: Engine, tiny: str, tmp_path: Path) -> Generator[Yard]:
    del tiny
    yard = Yard(engine, tmp_path)
    yard.close()  # what other tests have left
    yield yard
    yard.close()


def test_what_a_live_entrant_needs_stays_and_the_oldest_of_the_others_go(yard: Yard) -> None:
    held, older, newer = yard.build(), yard.build(), yard.build()
    dry = yard.sweep(held, dry_run=True)
    assert yard.images().keys() == {held.image_id, older.image_id, newer.image_id}
    assert names(yard.sweep(held, most_bytes=9 * MIB)) == [older.image_id]
    swept = yard.sweep(held)
    assert names(swept) == [newer.image_id]
    assert names(dry) == [older.image_id, newer.image_id]
    assert (swept.kept, swept.left) == (1, ())
    assert yard.images().keys() == {held.image_id}


def test_sizes_are_those_of_the_layers_that_no_other_image_has(yard: Yard) -> None:
    image = yard.build()
    own = yard.images()[image.image_id].size_bytes
    assert 4 * MIB <= own < 5 * MIB
    whole = int(yard.engine.client.images.get(image.image_id).attrs["Size"])
    assert whole > own
    swept = yard.sweep()
    assert swept.freed_bytes == own


def test_base_images_and_images_of_others_are_never_touched(yard: Yard) -> None:
    base = ensure_base_image(yard.engine, tiny=True)
    other = build(
        yard.engine.client, {"Dockerfile": "FROM tourney/tiny-base\nLABEL tourney.tree=x tourney.kind=text\n"}
    )
    yard.build()
    yard.sweep()
    assert yard.images() == {}
    assert yard.engine.client.images.get(base.name).id == base.image_id
    assert yard.engine.client.images.get(other).id == other
    yard.engine.client.images.remove(other)


def test_an_image_that_a_container_is_made_of_stays_and_it_is_said_why(yard: Yard) -> None:
    used, unused = yard.build(), yard.build()
    container = yard.engine.client.containers.create(used.image_id, ["true"], network_mode="none")
    try:
        swept = yard.sweep()
    finally:
        container.remove()
    assert names(swept) == [unused.image_id]
    (left,) = swept.left
    assert used.image_id in left
    assert "container" in left
    assert yard.images().keys() == {used.image_id}


def test_an_image_with_a_name_that_somebody_gave_it_stays(yard: Yard) -> None:
    named = yard.build()
    yard.engine.client.images.get(named.image_id).tag("operator/keeps", "this")
    swept = yard.sweep()
    assert names(swept) == []
    assert "referenced in multiple repositories" in swept.left[0]
    assert yard.images().keys() == {named.image_id}


def test_a_young_image_stays(yard: Yard) -> None:
    image = yard.build()
    mark = Mark(NOTHING, datetime.now(UTC) - LATER)
    assert ImageSweep(yard.engine, yard.folder, lambda: NOTHING).run(mark, 0).removed == ()
    assert abs(yard.images()[image.image_id].used_at - datetime.now(UTC)) < timedelta(minutes=5)


def test_whoever_has_come_to_need_an_image_meanwhile_keeps_it(yard: Yard) -> None:
    image = yard.build()
    swept = yard.sweep(meanwhile=(image,))
    assert swept.left == (f"image {image.image_id}: a tournament has come to need it",)
    assert yard.images().keys() == {image.image_id}


def test_a_tree_is_not_removed_while_it_is_built(yard: Yard) -> None:
    image = yard.build()
    done = threading.Event()
    with ThreadPoolExecutor(1) as pool, contextlib.ExitStack() as building:
        building.enter_context(alone(yard.folder / f"{image.tree_hash}-text.lock"))
        swept = pool.submit(yard.sweep)
        swept.add_done_callback(lambda _: done.set())
        assert not done.wait(1.0)
        assert yard.images().keys() == {image.image_id}
        building.close()
        assert names(swept.result(30)) == [image.image_id]


def test_one_that_was_removed_is_built_anew(yard: Yard) -> None:
    image = yard.build()
    yard.sweep()
    source = yard.folder / image.tree_hash
    log = yard.folder / f"{image.tree_hash}-text.log"
    again = build_image(yard.engine, "text", image.tree_hash, source, log, LIMITS)
    assert not again.found
    assert yard.images().keys() == {again.image_id}
