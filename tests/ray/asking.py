"""A script on a cluster, in a process of its own, and what it answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from tourney_ray.driver.cluster import LocalCluster

PATIENCE_S = 240.0


def ask(cluster: LocalCluster, script: str, *given: str) -> dict[str, Any]:
    """The JSON that the script prints; its arguments are the cluster's address and what is `given`."""
    command = [sys.executable, "-c", script, cluster.address, *given]
    environment = os.environ | cluster.environment
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
