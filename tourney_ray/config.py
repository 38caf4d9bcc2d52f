"""What an operator writes in `tournament.toml`: checked whole before anything starts, unknown keys refused."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from tourney_ray.core.models import Hotkey, TournamentType
from tourney_ray.core.presets import preset_fields
from tourney_ray.core.record import Record
from tourney_ray.core.rules import Rules
from tourney_ray.errors import ConfigError

PATHS: dict[str, tuple[str, ...]] = {
    "registry": ("miners", "transfers"),
    "repositories": ("licence", "notice"),
    "tasks": ("catalogue",),
    "cluster": ("file",),
}
"""Keys of files, by table."""

JOB_FOLDER = "working_dir_files"
"""Where Ray unpacks the folder that a job is submitted with."""


class BaseContestant(Record):
    """The repository that defends the title of a type's first tournament."""

    hotkey: Hotkey
    coldkey: Hotkey
    repo: str
    commit: str
    """Full SHA, or a branch that is resolved once."""


class Registry(Record):
    """Who may enter, and what they have paid."""

    miners: Path
    """JSON or TOML file of miners: hotkey, coldkey, ip, port."""
    transfers: Path | None = None
    """JSON file of transfers to the collection address: id, coldkey, rao; read at each registration pass."""
    answer_deadline_s: float = Field(default=10.0, gt=0)


class Repositories(Record):
    """Where miners' repositories may lie."""

    allowed_hosts: tuple[str, ...] = ("github.com", "gitlab.com", "huggingface.co")
    allow_file: bool = False
    """Whether `file://` repositories are fetched: for demonstrations and tests on one machine."""
    licence: Path | None = None
    """Text of the licence that every repository has to carry; goes with `notice`."""
    notice: Path | None = None
    deadline_s: float = Field(default=120.0, gt=0)

    @model_validator(mode="after")
    def _both_texts(self) -> Self:
        if (self.licence is None) is not (self.notice is None):
            raise ValueError("licence and notice go together: name both files, or neither")
        return self


class Tasks(Record):
    """What tasks are made from."""

    catalogue: Path | None = None
    """TOML file of models and data sets on the head; none: the tiny bundled samples of the demonstration."""


class Sandbox(Record):
    """How a trainer's code is run. All but `kind` is about containers."""

    kind: Literal["docker", "auto", "bubblewrap", "process"] = "auto"
    """`docker`: anybody's code, in containers. `auto`: bubblewrap where it works, else a plain process that isolates
    nothing; both run bundled samples only."""
    host: str = ""
    """Address of each node's engine; empty: DOCKER_HOST, else the usual socket."""
    devices: Literal["nvidia", "none"] = "nvidia"
    """`none`: GPUs are only counted, on machines that have none."""
    mem_per_gpu: bool = False
    """Whether the memory and CPUs of the rules are meant per GPU."""
    mem_reserve_gib: float = Field(default=2.0, ge=0)
    """Of a node's memory, left to the node itself."""
    output_gib: float = Field(default=100.0, gt=0)
    """Most that a training may write to its output folder."""
    layer_gib: float = Field(default=20.0, gt=0)
    """Most that it may write anywhere else."""
    build_network: str = "none"
    """Network of image builds; a named one should reach a package proxy and nothing else."""
    build_deadline_s: float = Field(default=3600.0, gt=0)


class Evaluation(Record):
    """What the process that reads checkpoints may take. It is isolated wherever `sandbox.kind` is not `process`."""

    mem_gib: float | None = Field(default=None, ge=0.5, allow_inf_nan=False)
    """Memory, GiB (2³⁰ bytes): room for the base model in fp32, a checkpoint beside it, and the longest row. None: all
    of the machine's but `sandbox.mem_reserve_gib`."""
    deadline_hours: float = Field(default=2.0, gt=0, allow_inf_nan=False)
    """For one checkpoint, hours, loading the base model included. A large model takes its time on the rows, and a file
    that only stops the clock holds its round up for twice as long at most."""
    cpus: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """CPUs that each node's evaluator holds in Ray, at most the node's. 0: they are not counted, since it computes on
    one thread and a training's CPUs are not counted either."""
    gpu: bool = False
    """Whether each evaluation holds a GPU of the type that its task is trained on, and computes there: for models that
    take hours on a CPU. Where `sandbox.devices` is `none` it is counted only."""


class Retention(Record):
    """How much each node keeps, GiB (2³⁰ bytes). Beyond it the oldest goes, but never what a tournament needs.

    The defaults together fit the disks of cluster.yaml: 2 TB on workers; 500 GB on the head, which has no images.
    """

    images_gib: float = Field(default=300.0, ge=0, allow_inf_nan=False)
    """Images built for miners, without the layers that they share."""
    caches_gib: float = Field(default=100.0, ge=0, allow_inf_nan=False)
    """What can be had again: copies of task data, checked-out checkpoints, fetched repositories, logs of builds."""
    artifacts_gib: float = Field(default=200.0, ge=0, allow_inf_nan=False)
    """Outputs, logs and records in the store of artifacts: of the whole store, where that is elsewhere."""


class ClusterChoice(Record):
    """Which Ray cluster to use and how much of it."""

    address: str = "auto"
    max_trainers: int | None = Field(default=None, ge=1)
    """Trainings at the same time, whatever the GPUs; one per CPU core where the GPUs are only logical."""
    file: Path | None = None
    """The cluster file on the head that the machines are started from: no more is asked of the autoscaler than it
    can start, and what none of them can have is an error at once. None: `~/ray_bootstrap_config.yaml` where `ray up`
    has left one; without any, whatever is not there may still come."""


class Settings(Record):
    """Everything that the driver needs to know. Paths are absolute once loaded."""

    name: str = Field(default="tourney", pattern=r"^[a-z0-9][a-z0-9-]*$")
    """Of the driver in the cluster: two drivers of one name are one."""
    state: Path
    """Folder of the journal, the seeds and the checkpoints; on a local disk of the head node."""
    artifacts: str = ""
    """Where outputs, logs and records are kept: a folder, or a URI such as `s3://bucket/folder`, the same on all
    nodes. Empty: the folder `data/artifacts` of `state`."""
    types: tuple[TournamentType, ...] = Field(default=(TournamentType.TEXT,), min_length=1)
    endless: bool = False
    """Whether tournaments follow each other, `tournament_interval_hours` apart, or one of each type is run."""
    seed: int | None = None
    """Derives all seeds from a public number, so that a demonstration repeats. Never set it where money is at stake."""
    registry: Registry
    base_contestants: dict[TournamentType, BaseContestant] = Field(default_factory=dict[TournamentType, BaseContestant])
    repositories: Repositories = Repositories()
    tasks: Tasks = Tasks()
    sandbox: Sandbox = Sandbox()
    evaluation: Evaluation = Evaluation()
    retention: Retention = Retention()
    cluster: ClusterChoice = ClusterChoice()
    rules: Rules = Rules()
    """A table may name a `preset` beside the fields in which it differs from that."""

    @field_validator("rules", mode="before")
    @classmethod
    def _from_preset(cls, given: Any) -> Any:
        if not isinstance(given, dict) or "preset" not in given:
            return given
        fields: dict[str, Any] = dict(given)
        return preset_fields(str(fields.pop("preset"))) | fields

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.types)) != len(self.types):
            raise ValueError("types names a tournament type twice")
        return self

    @property
    def data(self) -> Path:
        """Root of models, data sets, tests and checkpoints."""
        return self.state / "data"

    @property
    def artifacts_at(self) -> str:
        """Path or URI of the store of artifacts."""
        return self.artifacts or str(self.data / "artifacts")


def load_settings(path: Path) -> Settings:
    """The settings in a TOML file, relative paths taken from its folder; `ConfigError` names all faults in a line."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", "name a tournament.toml that exists") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    try:
        settings = Settings.model_validate(_absolute(document, path.resolve().parent))
    except ValidationError as error:
        raise ConfigError(f"{path}: {spell_validation(error)}", "docs/tournament.example.toml has every key") from error
    for key, place in (("state", settings.state), ("artifacts", Path(settings.artifacts_at))):
        if JOB_FOLDER in place.parts:
            raise ConfigError(
                f"{path}: {key} lies in {place}, a copy that Ray deletes", f"give `{key}` an absolute path"
            )
    return settings


def spell_validation(error: ValidationError) -> str:
    """All complaints of a validation in one line: `rules.min_miners: Input should be …; …`."""
    complaints = [(".".join(map(str, e["loc"])), e["msg"].removeprefix("Value error, ")) for e in error.errors()]
    return "; ".join(f"{where or 'document'}: {what}" for where, what in complaints)


def _absolute(document: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The document with its files taken from `folder` where they are relative."""
    local = ("artifacts",) if document.get("artifacts") and "://" not in str(document["artifacts"]) else ()
    result = _with_paths(document, ("state", *local), folder)
    for table, keys in PATHS.items():
        if isinstance(result.get(table), dict):
            result[table] = _with_paths(result[table], keys, folder)
    return result


def _with_paths(table: dict[str, Any], keys: tuple[str, ...], folder: Path) -> dict[str, Any]:
    paths = {k: str(folder / Path(table[k]).expanduser()) for k in keys if isinstance(table.get(k), str)}
    return {**table, **paths}
