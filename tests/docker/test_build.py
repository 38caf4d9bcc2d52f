"""Building strangers' images on a real engine: what is built, and what stops a build that does harm."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.docker.engine import PrivateEngine, forget_refused_connections
from tests.docker.yard import LIMITS, Yard, groups
from tourney_ray.effects.contract import dockerfile_at
from tourney_ray.effects.engine.connection import connect
from tourney_ray.effects.engine.containers import Container, Containers
from tourney_ray.errors import EngineDown, ImageBuildFailed

PYTHON = "FROM tourney/tiny-base\nRUN python3 -c "


def test_a_tree_is_built_once(yard: Yard) -> None:
    dockerfile = "FROM tourney/tiny-base\nRUN echo hello > /word\n"
    built = yard.build(dockerfile)
    assert not built.found
    assert len(built.base_images) == 1
    image = yard.engine.client.images.get(built.image_id)
    assert image.labels["tourney.tree"] == built.tree_hash
    again = yard.build(dockerfile, tree=built.tree_hash)
    assert again.found
    assert again.image_id == built.image_id


def test_two_who_want_the_same_build_it_once(yard: Yard) -> None:
    tree = os.urandom(20).hex()
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: yard.build("FROM tourney/tiny-base\nRUN sleep 1\n", tree=tree), range(2)))
    assert both[0].image_id == both[1].image_id
    assert sorted(one.found for one in both) == [False, True]


def test_labels_of_another_tree_are_no_use(yard: Yard) -> None:
    victim = "f" * 40
    forged = yard.build(f"FROM tourney/tiny-base\nLABEL tourney.tree={victim} tourney.kind=text\n")
    assert yard.engine.client.images.get(forged.image_id).labels["tourney.tree"] == forged.tree_hash
    honest = yard.build("FROM tourney/tiny-base\n", tree=victim)
    assert not honest.found
    assert honest.image_id != forged.image_id


REFUSED = {
    "no dockerfile": (None, r"the repository has no file dockerfiles/standalone-text-trainer\.dockerfile"),
    "a missing base": (
        "FROM ghost/none:1\n",
        "line 1 .* ghost/none:1, which is not among the images",
    ),
    "a volume": ("FROM tourney/tiny-base\nVOLUME /data\n", "declares a volume"),
    "a failing step": (
        "FROM tourney/tiny-base\nRUN true\nRUN echo no such wheel >&2; exit 7\n",
        r"image build failed at step 3/\d \(RUN echo no such wheel .*returned a non-zero code: 7",
    ),
    "a fork bomb": (PYTHON + '"import os\\nwhile True: os.fork()"\n', r"image build failed at step 2/\d \(RUN python3"),
    "a memory hog": (PYTHON + '"x = bytearray(2**30); print(len(x))"\n', "returned a non-zero code: 137"),
    "the metadata address": (
        PYTHON + "\"import socket; socket.create_connection(('169.254.169.254', 80), 2)\"\n",
        "image build failed at step 2",
    ),
    "the engine's socket": (
        "FROM tourney/tiny-base\nRUN test -S /var/run/docker.sock\n",
        "returned a non-zero code: 1",
    ),
    "a name": (PYTHON + "\"import socket; socket.gethostbyname('example.com')\"\n", "image build failed at step 2"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_the_miners_own_fault(yard: Yard, name: str) -> None:
    dockerfile, words = REFUSED[name]
    with pytest.raises(ImageBuildFailed, match=words):
        yard.build(dockerfile)


def test_a_build_leaves_other_containers_alone(yard: Yard) -> None:
    other = yard.engine.client.containers.run("tourney/tiny-base", ["sleep", "600"], network_mode="none", detach=True)
    with pytest.raises(ImageBuildFailed):
        yard.build("FROM tourney/tiny-base\nRUN exit 3\n")
    assert yard.engine.client.containers.get(str(other.id)).status == "running"
    other.remove(force=True)


def test_words_of_the_engine_in_a_step_excuse_nobody(yard: Yard) -> None:
    with pytest.raises(ImageBuildFailed, match="at step 2"):
        yard.build("FROM tourney/tiny-base\nRUN echo connection reset; echo error during connect: EOF; false\n")


def test_another_miners_image_is_no_base(yard: Yard) -> None:
    other = yard.build("FROM tourney/tiny-base\nRUN echo secret > /recipe\n")
    with pytest.raises(ImageBuildFailed, match="which is another miner's image"):
        yard.build(f"FROM tourney/miner:text-{other.tree_hash}\n")
    with pytest.raises(ImageBuildFailed, match="which is another miner's image"):
        yard.build(f"FROM tourney/tiny-base\nCOPY --from={other.image_id} /recipe /recipe\n")


def test_what_the_engine_would_fetch_is_refused(yard: Yard) -> None:
    with pytest.raises(ImageBuildFailed, match="has the engine fetch something"):
        yard.build("FROM tourney/tiny-base\nADD http://169.254.169.254/latest /x\n")


def test_a_step_of_a_build_cannot_pass_for_a_training(yard: Yard) -> None:
    forged = "driver=d tournament=t task=victim hotkey=h attempt=a epoch=1 node=n gpu_type=H100 gpus=0"
    labels = " ".join(f"tourney.{word}" for word in forged.split())
    seen: list[list[Container]] = []
    with closing(yard.engine.stream_client()) as client:
        events = client.api.events(filters={"event": "start", "label": "tourney.task=victim"}, decode=True)
        looking = threading.Thread(target=lambda: (next(events), seen.append(Containers(yard.engine).ours())))
        looking.start()
        yard.build(f"FROM tourney/tiny-base\nLABEL {labels}\nRUN sleep 1\n")
        looking.join(10)
        events.close()
    assert seen == [[]]


def test_a_build_whose_watcher_is_killed_is_ended_by_the_next(yard: Yard) -> None:
    watcher = os.fork()
    if watcher == 0:
        with contextlib.closing(connect(yard.engine.host)) as own:
            Yard(own, yard.folder / "other").build("FROM tourney/tiny-base\nRUN sleep 1000\n")
        os._exit(1)
    with closing(yard.engine.stream_client()) as client:
        events = client.api.events(filters={"type": "container", "event": "start"}, decode=True)
        next(events)
        os.kill(watcher, signal.SIGKILL)
        os.waitpid(watcher, 0)
        events.close()
    assert yard.build("FROM tourney/tiny-base\nRUN true\n").image_id
    assert groups(watcher) == set()


def test_a_dockerfile_that_is_a_link(yard: Yard, tmp_path: Path) -> None:
    tree = yard.tree()
    path = tmp_path / tree / dockerfile_at("text")
    path.symlink_to("/etc/passwd")
    with pytest.raises(ImageBuildFailed, match="the repository has no file"):
        yard.build(None, tree=tree)


def test_a_build_without_end_is_stopped(yard: Yard) -> None:
    with pytest.raises(ImageBuildFailed, match=r"at step 2/\d \(RUN sleep 1000\): it took longer than 2 s"):
        yard.build("FROM tourney/tiny-base\nRUN sleep 1000\n", replace(LIMITS, deadline_s=2.0))


def test_a_build_that_writes_without_end_is_stopped(yard: Yard) -> None:
    fill = "FROM tourney/tiny-base\nRUN dd if=/dev/zero of=/fill bs=1M; sleep 1000\n"
    with pytest.raises(ImageBuildFailed, match="it wrote more than"):
        yard.build(fill, LIMITS)


def test_a_giant_layer_is_refused(yard: Yard) -> None:
    half = "RUN dd if=/dev/zero of=/fill{} bs=1M count=40\n"
    with pytest.raises(ImageBuildFailed, match="more than"):
        yard.build("FROM tourney/tiny-base\n" + half.format(1) + half.format(2), LIMITS)


def test_a_giant_file_is_refused(yard: Yard) -> None:
    giant = "FROM tourney/tiny-base\nRUN dd if=/dev/zero of=/fill bs=1M count=80\n"
    with pytest.raises(ImageBuildFailed, match=r"it wrote a file of more than 0\.1 GiB|it wrote more than"):
        yard.build(giant, LIMITS)


def test_a_preloaded_library_is_the_images_own_affair(yard: Yard) -> None:
    assert yard.build("FROM tourney/tiny-base\nENV LD_PRELOAD=/nothing.so\n").image_id


@pytest.mark.filterwarnings("ignore:unclosed <socket.socket:ResourceWarning")  # docker-py's, where nobody listens
def test_an_engine_that_dies_is_the_platforms_fault(dockerd: PrivateEngine, yard: Yard) -> None:
    """What it leaves of the build's step is removed by the next build."""
    killer = threading.Timer(1.5, dockerd.restart)
    killer.start()
    with pytest.raises(EngineDown):
        yard.build("FROM tourney/tiny-base\nRUN sleep 20\n")
    killer.join()
    forget_refused_connections()
    assert yard.build("FROM tourney/tiny-base\nRUN true\n").image_id
