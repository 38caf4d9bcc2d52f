"""Opening the database: where it may lie, who else holds it, what it may touch, which schema it has."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import duckdb

from tourney_ray.core.quoting import shown
from tourney_ray.errors import AuditDifference, ConfigError, InUse, NotAllowed
from tourney_ray.store.tables import transaction

SCHEMA_VERSION = 4

DATABASE = "journal.duckdb"
"""Name of the database in a folder that is given instead of a file; its lines are in the `.jsonl` beside it."""

SNAPSHOTS = "snapshots"
"""Folder beside the database: besides its own files the only place that it can read or write."""

NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "beegfs", "ceph", "coda", "glusterfs", "gpfs", "lustre", "ncpfs"}
)
"""As /proc/self/mountinfo calls them. All of FUSE counts as well (sshfs, s3fs …), but for what is known to be local."""

LOCAL_FUSE = frozenset({"fuseblk", "fuse.fuse-overlayfs", "fuse.bindfs", "fuse.gocryptfs", "fuse.mergerfs"})

LIMITS: dict[str, str | bool | int | float | list[str]] = {
    "threads": 1,
    "memory_limit": "1GB",
    "max_temp_directory_size": "1GB",
    "autoload_known_extensions": False,
    "autoinstall_known_extensions": False,
    "python_enable_replacements": False,
}
"""A journal is small; the machine belongs to the trainings."""


SET_ASIDE = "move the file and its .wal aside, both: the journal is then made anew from the .jsonl beside them"


def database_path(path: Path) -> Path:
    """The database that `path` names, itself or the folder that it lies in."""
    return path / DATABASE if path.is_dir() or not path.suffix else path


def connect(path: Path, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    """A connection to the database at `path` that reaches no other file but the snapshots beside it, in UTC.

    Raises `NotAllowed` on a network file system or while another process holds the file, `ConfigError` when the file
    is no DuckDB database or cannot be opened.
    """
    if kind := network_file_system(path):
        raise NotAllowed(
            f"{path} lies on a network file system ({kind}), where a database cannot be locked",
            "choose a folder on a local disk",
        )
    wal = path.with_name(path.name + ".wal")
    if wal.exists() and not path.exists():
        raise NotAllowed(f"{wal} is there without its database", "put the database back, or move the .wal aside too")
    try:
        connection = duckdb.connect(path, read_only=read_only, config=LIMITS)
    except duckdb.Error as error:
        raise _refusal(path, error) from error
    confine(connection, path.resolve().parent / SNAPSHOTS)
    return connection


def confine(connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """Keep all SQL of the connection's database inside `folder` and its own files, for good."""
    if connection.execute("SELECT current_setting('lock_configuration')").fetchall() == [(True,)]:
        return
    quoted = str(folder).replace("'", "''")
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    connection.execute(f"SET allowed_directories = ['{quoted}']")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def prepare_schema(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Make the tables of a new database; raises what `check_schema` raises for one that is not ours."""
    if not check_schema(connection, path):
        with transaction(connection):
            connection.execute(schema_sql())
        connection.execute("CHECKPOINT")
        connection.execute("INSERT INTO meta VALUES (?, now())", [SCHEMA_VERSION])


def schema_sql() -> str:
    """The statements that make our tables."""
    return files("tourney_ray.store").joinpath("schema.sql").read_text(encoding="utf-8")


def check_schema(connection: duckdb.DuckDBPyConnection, path: Path) -> bool:
    """Whether the database has our tables, False for an empty one and for one whose creation was cut.

    Raises `NotAllowed` for a newer or an older schema, `ConfigError` for somebody else's database, `AuditDifference`
    when there are facts, but no schema version.
    """
    tables = {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    if not tables:
        return False
    if not {"meta", "journal"} <= tables:
        raise ConfigError(f"{path} is a DuckDB database, but no journal", "name another file")
    ((version,),) = connection.execute("SELECT max(schema_version) FROM meta").fetchall()
    if version is None:
        _refuse_facts(connection, path)
        return False
    if not isinstance(version, int):
        raise ConfigError(f"{path} has a schema version that is no number", "name another file")
    if version > SCHEMA_VERSION:
        raise NotAllowed(
            f"{path} has schema {version}; this tourney_ray knows schemas up to {SCHEMA_VERSION}",
            "install the tourney_ray that wrote it, or a newer one",
        )
    if version < SCHEMA_VERSION:
        raise NotAllowed(
            f"{path} has schema {version}, from before the first release; this tourney_ray writes {SCHEMA_VERSION}",
            "read it with the tourney_ray that wrote it, and start a new journal",
        )
    return True


def _refuse_facts(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Facts are only ever written once the schema's version is: without it they must not count as none at all."""
    ((facts,),) = connection.execute("SELECT count(*) FROM journal").fetchall()
    if facts:
        raise AuditDifference(f"{path} holds {facts} facts, but not the version of its schema: it was altered")


def network_file_system(path: Path, mounts: str | None = None) -> str:
    """The kind of network file system that `path` lies on, empty for a local one.

    `mounts` is the text of /proc/self/mountinfo; where there is none, every file system counts as local.
    """
    if mounts is None:
        table = Path("/proc/self/mountinfo")
        mounts = table.read_text(encoding="utf-8", errors="replace") if table.exists() else ""
    place = path.resolve()
    kind, depth = "", -1
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        mount = Path(_unescape(left.split()[4]))
        if place.is_relative_to(mount) and len(mount.parts) >= depth:  # of two on one point the later lies on top
            kind, depth = right.split()[0], len(mount.parts)
    remote = kind in NETWORK_FILE_SYSTEMS or (kind.startswith("fuse") and kind not in LOCAL_FUSE)
    return kind if remote else ""


def one_line(error: duckdb.Error) -> str:
    """DuckDB's message without its drawing of the statement, whatever of a stranger's it quotes."""
    text = str(error).split("\nLINE ", 1)[0]
    return shown(" ".join(line.strip() for line in text.splitlines() if line.strip()), 500)


def _unescape(mount: str) -> str:
    """Mount points are written with spaces and the like in octal."""
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), mount)


def _refusal(path: Path, error: duckdb.Error) -> ConfigError | NotAllowed:
    text = one_line(error)
    if "lock on file" in text or "different configuration" in text:
        holder = re.search(r"held in (.+? \(PID \d+\))", text)
        who = holder[1] if holder else "another connection"
        return InUse(f"{path} is in use by {who}", "wait until it ends, or ask the driver that runs there")
    if "not a valid DuckDB" in text:
        return ConfigError(f"{path} is not a DuckDB database", "name another file, or move this one aside")
    return ConfigError(f"{path} cannot be opened: {text}", SET_ASIDE)
