"""What is remembered of what lies where changes nothing of what is said of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import given, strategies as st

from tests.builders import START as NOW, miners
from tests.core.arena import Arena, image_built
from tests.core.test_open_tasks import told
from tests.core.test_placement import ONE, TWO, nodes, seen
from tourney_ray.core import events as e
from tourney_ray.core.commands import Stage
from tourney_ray.core.layout import Layout
from tourney_ray.core.leases import Cluster, Staged
from tourney_ray.core.models import GpuRequirement
from tourney_ray.core.plan import Planner, plan
from tourney_ray.core.queueing import Line, Request
from tourney_ray.core.schedule import Agenda
from tourney_ray.core.staging import put
from tourney_ray.core.state import State

CLUSTER = replace(nodes(n1=2, n2=4, n3=1), staged={})


def alike(arena: Arena, planner: Planner) -> None:
    """The planner that knows all that was before says what one says that knows nothing."""
    given = arena.stage.state, arena.stage.at, Agenda(), arena.cluster
    assert told(planner.plan(*given)) == told(plan(*given))


def test_a_planner_that_has_seen_everything_says_what_a_new_one_says_of_what_is_staged() -> None:
    arena, planner = Arena(miners(16), cluster=CLUSTER).open(), Planner()
    while arena.step():
        alike(arena, planner)
    assert arena.tournament.completed


def test_it_hears_of_nodes_and_images_that_change() -> None:
    arena, planner = Arena(miners(16), cluster=CLUSTER).open().until_active(), Planner()
    staged = [c for c in arena.plan().commands if isinstance(c, Stage)]
    for command in staged:
        arena.do(command)
        alike(arena, planner)
    again = next(c for c in arena.plan().commands if isinstance(c, Stage))
    arena.stage.record(image_built(replace(staged[0], node=again.node), which=2))
    alike(arena, planner)
    assert staged[0].spec.hotkey in {c.spec.hotkey for c in arena.plan().commands if isinstance(c, Stage)}
    arena.stage.record(e.NodeLost(node=staged[1].node))
    alike(arena, planner)
    left = tuple(node for node in arena.cluster.nodes if node.node_id != staged[1].node)
    arena.cluster = replace(arena.cluster, nodes=left, launchable=(("H100", 1),))
    alike(arena, planner)


# --- whatever changes

TASKS, NODES = ("t1", "t2", "t3"), ("n1", "n2", "n3")


@dataclass
class Yard:
    """Three tasks of which anything may change; each is asked for again only where it did."""

    layout: Layout = field(default_factory=Layout)
    state: State = field(default_factory=lambda: seen(nodes(n1=8, n2=8)))
    lines: dict[str, Line] = field(default_factory=dict[str, Line])
    staged: dict[str, Staged] = field(default_factory=dict[str, Staged])

    def ask(self, task_id: str, keys: frozenset[int], need: GpuRequirement) -> None:
        """These of the task wait."""
        requests = [Request(f"{task_id}.{key}", need, 1.0, task_id=task_id) for key in sorted(keys)]
        self.lines.pop(task_id, None)
        if requests:
            self.lines[task_id] = Line.of(*requests)

    def put(self, task_id: str, key: int, node: str, image: str | None) -> None:
        """That image lies there."""
        self.staged[task_id] = put(self.staged.get(task_id, {}), f"{task_id}.{key}", node, image)

    def told(self, layout: Layout) -> object:
        """All that a layout says."""
        layout.see(self.lines.values(), self.state, Cluster(staged=self.staged))
        places = {r.key: layout.places(r) for line in self.lines.values() for r in line.requests}
        nowhere = {task_id: layout.nowhere(line) for task_id, line in self.lines.items()}
        return places, nowhere, {need: layout.waiting(need) for need in (ONE, TWO)}


changes = st.one_of(
    st.tuples(st.just("ask"), st.sampled_from(TASKS), st.frozensets(st.integers(0, 5)), st.sampled_from((ONE, TWO))),
    st.tuples(
        st.just("put"),
        st.sampled_from(TASKS),
        st.integers(0, 5),
        st.sampled_from(NODES),
        st.sampled_from(("", "other", None)),
    ),
)


@given(st.lists(changes, max_size=30))
def test_what_it_says_does_not_depend_on_what_it_was_told_before(happens: list[tuple[object, ...]]) -> None:
    yard = Yard()
    for what, *change in happens:
        getattr(yard, str(what))(*change)
        assert yard.told(yard.layout) == yard.told(Layout())


def test_what_lies_on_a_node_that_is_lost_lies_nowhere() -> None:
    yard = Yard()
    yard.ask("t1", frozenset({1, 2}), ONE)
    yard.put("t1", 1, "n1", "")
    yard.put("t1", 2, "n2", "")
    before = yard.told(yard.layout)
    n1 = yard.state.nodes["n1"]
    yard.state = replace(yard.state, nodes={**yard.state.nodes, "n1": replace(n1, lost_at=NOW)})
    assert yard.told(yard.layout) == yard.told(Layout()) != before
    assert [r.key for r in yard.layout.nowhere(yard.lines["t1"])] == ["t1.1"]
