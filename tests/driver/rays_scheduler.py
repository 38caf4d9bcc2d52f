"""What the scheduler of Ray's autoscaler makes of a demand: the real one, which needs no cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from ray.autoscaler.v2.instance_manager.config import NodeTypeConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.schema import AutoscalerInstance
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.core.generated import autoscaler_pb2, instance_manager_pb2

from tourney_ray.driver.asking import Bundle
from tourney_ray.effects.cluster_file import MACHINE, NodeType

AUTOSCALER: Any = autoscaler_pb2
MANAGER: Any = instance_manager_pb2
IS_IN = 1
"""Ray's operator of a label that has to have one of some values."""


def rays_answer(
    bundles: Counter[Bundle], there: Mapping[str, str], kinds: Iterable[NodeType], most: int
) -> tuple[Counter[str], bool]:
    """How many machines of each kind it would start, and whether it finds the demand infeasible.

    `there` are the running machines with their labels, `most` how many there may be of all kinds.
    """
    by_label = {kind.machine: kind for kind in kinds}
    constraint = AUTOSCALER.ClusterResourceConstraint(
        resource_requests=ResourceRequestUtil.group_by_count([_request(bundle) for bundle in bundles.elements()])
    )
    request = SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs={kind.name: _config(kind) for kind in by_label.values()},
        max_num_nodes=most,
        cluster_resource_constraints=[constraint] if bundles else [],
        current_instances=[_running(name, by_label[label]) for name, label in there.items()],
    )
    reply = ResourceDemandScheduler().schedule(request)
    launched = Counter({launch.instance_type: launch.count for launch in reply.to_launch})
    return launched, bool(reply.infeasible_cluster_resource_constraints)


def _resources(kind: NodeType) -> dict[str, float]:
    return {**kind.gpus, "GPU": float(sum(kind.gpus.values()))}


def _config(kind: NodeType) -> NodeTypeConfig:
    return NodeTypeConfig(
        name=kind.name,
        min_worker_nodes=kind.min_workers,
        max_worker_nodes=kind.max_workers,
        resources=_resources(kind),
        labels={MACHINE: kind.machine},
    )


def _running(name: str, kind: NodeType) -> AutoscalerInstance:
    instance = MANAGER.Instance(
        instance_id=name,
        instance_type=kind.name,
        status=MANAGER.Instance.RAY_RUNNING,
        node_id=name,
        node_kind=MANAGER.NodeKind.WORKER,
    )
    node = AUTOSCALER.NodeState(
        node_id=name.encode(),
        total_resources=_resources(kind),
        available_resources=_resources(kind),
        labels={MACHINE: kind.machine},
    )
    return AutoscalerInstance(im_instance=instance, ray_node=node, cloud_instance_id=name)


def _request(bundle: Bundle) -> Any:
    labels = [[(MACHINE, IS_IN, [bundle.machine])]] if bundle.machine else None
    gpus = dict(bundle.gpus)
    return ResourceRequestUtil.make({**gpus, "GPU": sum(gpus.values())}, None, labels)
