"""A GPU has one holder: fifty trainings on eight, handed out by the engine, with containers killed at random."""

from __future__ import annotations

import random
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from typing import Any

from docker.errors import APIError

from tests.docker.bench import LIMITS, Bench, Heard
from tourney_ray.core.models import Blame, Failed
from tourney_ray.effects.engine.connection import Engine
from tourney_ray.effects.ran import Ran

GPUS, TRAININGS = 8, 50
SCRIPT = "import os, time\nprint(os.environ['NVIDIA_VISIBLE_DEVICES'], flush=True)\ntime.sleep(0.3)"


def test_no_gpu_has_two_holders(bench: Bench) -> None:
    bench.limits = replace(LIMITS, devices="nvidia")
    image, dice = bench.image(SCRIPT), random.Random(7)
    bench.stage(bench.spec(image))

    def train(number: int) -> Ran | Failed:
        ran = bench.trainer().train(bench.spec(image, f"hk-{number}"), bench.place(GPUS), Heard())
        assert isinstance(ran, Ran | Failed)
        return ran

    with everything(bench.engine) as events, killing(bench, dice), ThreadPoolExecutor(GPUS) as pool:
        ended = list(pool.map(train, range(TRAININGS)))
    check_exclusive(events)
    seen = [one for one in ended if isinstance(one, Ran) and one.failed is None]
    assert all(one.log_tail.strip() == str(one.gpu_indices[0]) for one in seen)
    others = [one if isinstance(one, Failed) else one.failed for one in ended if one not in seen]
    assert all(one is not None and one.blame is Blame.PLATFORM for one in others)
    assert others, "nobody was stopped by hand, so nothing was shown of that"
    assert len({one.gpu_indices for one in seen}) == GPUS
    assert bench.left() == []


def check_exclusive(events: list[dict[str, Any]]) -> None:
    """From its start to its end no two containers hold an index."""
    holders: dict[str, str] = {}
    for event in sorted(events, key=lambda one: one["timeNano"]):
        attributes = event["Actor"]["Attributes"]
        index, attempt = attributes["tourney.gpus"], attributes["tourney.attempt"]
        if event["Action"] == "start":
            assert index not in holders, f"{attempt} got GPU {index} of {holders[index]}"
            holders[index] = attempt
        else:
            assert holders.pop(index) == attempt
    assert holders == {}
    assert len(events) == 2 * TRAININGS


@contextmanager
def everything(engine: Engine) -> Generator[list[dict[str, Any]]]:
    """All starts and ends of containers of ours, from now on."""
    heard: list[dict[str, Any]] = []
    wanted = {"type": "container", "event": ["start", "die"], "label": "tourney.attempt"}
    with closing(engine.stream_client()) as client:
        stream = client.api.events(filters=wanted, decode=True)
        listening = threading.Thread(target=lambda: heard.extend(stream))
        listening.start()
        yield heard
        stream.close()
        listening.join()


@contextmanager
def killing(bench: Bench, dice: random.Random) -> Generator[None]:
    """Meanwhile somebody kills a container now and then."""
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.4):
            running = [one for one in bench.containers.ours() if one.runs]
            if running:
                with suppress(APIError):  # it has ended by itself
                    bench.engine.client.api.kill(dice.choice(running).container_id)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield
    finally:
        over.set()
        killer.join()
