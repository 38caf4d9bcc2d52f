"""Shell scripts and dockerfiles that decode and run a payload, and honest ones."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tests.effects.builders_repos import found
from tourney_ray.effects.vetting import Rule

PAYLOAD = base64.b64encode(b"print('hidden work')" * 4).decode()


@pytest.mark.parametrize(
    "command",
    [
        "echo {p} | base64 -d | sh",
        "echo {p} | base64 --decode | python3",
        "echo {p} | base64 -di | sudo -E bash -s",
        "echo {p} \\\n  | base64 -D \\\n  | /usr/bin/env python",
        "printf '\\x65\\x63\\x68\\x6f\\x20\\x68\\x69\\x0a' | sh",
        "cat x | openssl enc -aes-256-cbc -d -k secret | bash",
        "xxd -r -p payload | perl",
        "zcat payload | sh",
        "cat x | rev | sh",
        "cat x | tr a-z n-za-m | sh",
        'eval "$(echo {p} | base64 -d)"',
        "bash -c \"$(base64 -d <<< '{p}')\"",
        "bash <(echo {p} | base64 -d)",
        "sh -c `echo {p} | base64 -d`",
        ". <(echo {p} | base64 -d)",
        "echo {p} | base64 -d > /tmp/x; sh /tmp/x",
        "echo {p} | base64 -d | tee run.py >/dev/null\npython run.py",
        "base64 -d x > ./run && chmod +x ./run && ./run",
        "python -c \"import base64; exec(base64.b64decode('{p}'))\"",
        "echo x | base64 -d | xargs -0 python -c",
        "echo {p} | base64 -d | python /dev/stdin",
    ],
)
@pytest.mark.parametrize(
    ("name", "prefix"), [("run.sh", "#!/bin/sh\n"), ("extra.dockerfile", "FROM x\nRUN "), ("go", "#!/bin/bash\n")]
)
def test_shell_that_decodes_and_runs(tmp_path: Path, command: str, name: str, prefix: str) -> None:
    findings = found(tmp_path, **{name: prefix + command.replace("{p}", PAYLOAD) + "\n"})
    assert [(file, rule) for file, _, rule in findings] == [(name, Rule.RUNS_DECODED_DATA)]
    assert 1 <= findings[0][1] <= 3


@pytest.mark.parametrize(
    "command",
    [
        'echo "$KEY" | base64 -d > key.json',
        "echo $X | base64 -d | python -m json.tool",
        "cat data.gz | gunzip | python prepare.py",
        "curl -L https://example.com/install.sh | sh",
        "gunzip -c data.json.gz > data.json\npython train.py data.json",
        "# echo x | base64 -d | sh",
        "pip install torch && python train.py | tee log.txt",
        'CMD ["bash", "-c", "python train.py"]',
        "tar xzf x.tar.gz | cat",
        "eval $(conda shell.bash hook)",
    ],
)
def test_honest_shell_passes(tmp_path: Path, command: str) -> None:
    assert found(tmp_path, run__sh=command + "\n") == []


def test_prose_about_payloads_passes(tmp_path: Path) -> None:
    assert found(tmp_path, SECURITY__md="Never run `echo x | base64 -d | sh`.\n") == []
