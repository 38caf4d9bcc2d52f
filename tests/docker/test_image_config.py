"""What an image says of itself, and that none of it loosens a bound of the container or blames the platform."""

from __future__ import annotations

from typing import Any

import pytest

from tests.docker.bench import DOCKERFILE, SAVING, Bench
from tourney_ray.core.models import Blame
from tourney_ray.effects.ran import Ran

PRINTING = SAVING + "(output / 'model').write_text('x')\n"
WAITING = PRINTING + "print('ready', flush=True)\nimport time\ntime.sleep(600)\n"


def facts_of(bench: Bench, dockerfile: str, hotkey: str = "hk") -> dict[str, Any]:
    """What the engine says of a container of that image, while it runs."""
    spec = bench.spec(bench.image(WAITING, DOCKERFILE + dockerfile), hotkey)
    bench.stage(spec)
    container = bench.start(spec)
    return bench.engine.client.api.inspect_container(container.container_id)


def test_no_health_check_runs_beside_the_training(bench: Bench) -> None:
    facts = facts_of(bench, "HEALTHCHECK --interval=1s CMD touch /tmp/looked\n")
    assert facts["Config"]["Healthcheck"]["Test"] == ["NONE"]
    assert "Health" not in facts["State"]


@pytest.mark.parametrize("signal", ["SIGCONT", "SIGWINCH", "9"])
def test_the_signal_to_stop_is_ours(bench: Bench, signal: str) -> None:
    """At the deadline SIGTERM comes, whatever the image asks for, and there is time to save."""
    script = SAVING + (
        "import signal, time\n"
        "def save(number, frame):\n    (output / 'model').write_text(str(number)); os._exit(0)\n"
        "signal.signal(signal.SIGTERM, save)\nwhile True: time.sleep(1)\n"
    )
    spec = bench.spec(bench.image(script, DOCKERFILE + f"STOPSIGNAL {signal}\n"), hours=1.5 / 3600)
    ran = bench.run_spec(spec)
    assert isinstance(ran, Ran)
    assert ran.stopped_at_deadline, ran
    assert bench.saved(spec, "model") == "15"


def test_the_contracts_words_come_last_and_the_images_own_command_is_dropped(bench: Bench) -> None:
    script = SAVING + "(output / 'model').write_text(' '.join(sys.argv[1:]))\n"
    dockerfile = DOCKERFILE.replace('"/workspace/train.py"]', '"/workspace/train.py", "--mine", "1"]')
    spec = bench.spec(bench.image(script, dockerfile + 'CMD ["--task-id", "another"]\n'))
    assert isinstance(bench.run_spec(spec), Ran)
    said = bench.saved(spec, "model")
    assert said.startswith(f"--mine 1 --task-id {spec.task_id} ")
    assert "another" not in said


def test_ports_shell_and_triggers_change_nothing(bench: Bench) -> None:
    facts = facts_of(bench, 'EXPOSE 22 80/udp\nSHELL ["/bin/false"]\nONBUILD RUN false\n')
    assert facts["HostConfig"]["PortBindings"] in (None, {})
    assert facts["HostConfig"]["PublishAllPorts"] is False
    assert facts["NetworkSettings"]["Ports"] in (None, {}) or not any(facts["NetworkSettings"]["Ports"].values())
    assert set(facts["NetworkSettings"]["Networks"]) == {"none"}


def test_variables_of_the_image_hand_out_no_gpu_and_do_not_override_the_contract(bench: Bench) -> None:
    script = SAVING + "(output / 'model').write_text(os.environ['WANDB_MODE'] + os.environ['NVIDIA_VISIBLE_DEVICES'])\n"
    image = bench.image(script, DOCKERFILE + "ENV WANDB_MODE=online NVIDIA_VISIBLE_DEVICES=all\n")
    spec = bench.spec(image)
    ran = bench.run_spec(spec)
    assert isinstance(ran, Ran)
    assert ran.failed is None, ran
    assert bench.saved(spec, "model") == "offlineall"
    facts = facts_of(bench, "ENV NVIDIA_VISIBLE_DEVICES=all\n", "hk-2")
    assert facts["HostConfig"]["DeviceRequests"] in (None, [])
    assert facts["HostConfig"]["Runtime"] == "runc"


def test_labels_of_the_image_are_not_ours(bench: Bench) -> None:
    forged = "LABEL tourney.attempt=victim tourney.hotkey=victim tourney.gpus=7 tourney.task=victim tourney.driver=x\n"
    facts = facts_of(bench, forged)
    labels = facts["Config"]["Labels"]
    assert labels["tourney.hotkey"] == "hk"
    assert "victim" not in labels.values()


UNSTARTABLE = {
    "no entry point": DOCKERFILE.rpartition("ENTRYPOINT")[0],
    "an entry point that is not there": DOCKERFILE.rpartition("ENTRYPOINT")[0] + 'ENTRYPOINT ["/ghost"]\n',
    "an entry point that is a folder": DOCKERFILE.rpartition("ENTRYPOINT")[0] + 'ENTRYPOINT ["/workspace"]\n',
    "an entry point that is no program": DOCKERFILE.rpartition("ENTRYPOINT")[0]
    + 'ENTRYPOINT ["/workspace/train.py"]\n',
    "a shell as entry point": DOCKERFILE.rpartition("ENTRYPOINT")[0] + "ENTRYPOINT exit 3\n",
    "a user that is not there": DOCKERFILE + "USER ghost\n",
    "a group that is not there": DOCKERFILE + "USER 0:ghost\n",
    "a user beyond all numbers": DOCKERFILE + "USER 99999999999\n",
    "a folder in the cache": DOCKERFILE + "WORKDIR /cache/mine\n",
    "a folder in /proc": DOCKERFILE + "RUN true\nWORKDIR /proc/1/x\n",
    "variables beyond all bounds": DOCKERFILE + "ENV A=" + f"{'x' * 43_700}\\\n" * 3 + "x\n",
    "a cache that is a file": DOCKERFILE + "RUN rm -rf /cache; echo > /cache\n",
    "a cache that is a link": DOCKERFILE + "RUN rm -rf /cache; ln -s /proc /cache\n",
    "an output that is a file": DOCKERFILE + "RUN rm -rf /app; echo > /app\n",
    "an output that is a link": DOCKERFILE
    + "RUN mkdir -p /app; rm -rf /app/checkpoints; ln -s /proc /app/checkpoints\n",
    "hosts that are a folder": DOCKERFILE + "COPY train.py /etc/hosts/x\n",
    "a temporary folder that is a file": DOCKERFILE + "RUN rm -rf /tmp; echo > /tmp\n",
    "no shell": 'FROM scratch\nCOPY train.py /\nENTRYPOINT ["/train.py"]\n',
    "a program for another machine": DOCKERFILE.rpartition("ENTRYPOINT")[0]
    + "RUN printf '\\177ELF\\002\\001\\001' > /x; chmod 755 /x\nENTRYPOINT [\"/x\"]\n",
}


@pytest.mark.parametrize("name", UNSTARTABLE)
def test_an_image_that_cannot_be_started_is_its_miners_fault(bench: Bench, name: str) -> None:
    ran = bench.run("import sys\nsys.exit(3)\n", UNSTARTABLE[name])
    failed = ran.failed if isinstance(ran, Ran) else ran
    assert failed is not None
    assert failed.blame is Blame.MINER  # pyright: ignore[reportAttributeAccessIssue]
    assert bench.left() == []
