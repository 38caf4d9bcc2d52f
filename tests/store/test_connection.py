"""Where a journal may lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from tourney_ray.errors import NotAllowed
from tourney_ray.store import connection
from tourney_ray.store.connection import database_path, network_file_system

MOUNTS = r"""
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:26 / /mnt/nfs rw shared:5 - nfs4 server:/export rw
31 30 8:1 / /mnt/nfs/local rw - xfs /dev/sda rw
32 22 0:40 / /mnt/my\040share rw - cifs //host/share rw
33 22 0:41 / /mnt/ssh rw - fuse.sshfs host: rw
34 22 0:42 / /mnt/overlay rw - fuse.fuse-overlayfs overlay rw
35 22 0:43 / /mnt/lustre rw - lustre mds:/fs rw
36 22 8:2 / /mnt/twice rw - ext4 /dev/sdb rw
37 36 0:44 / /mnt/twice rw - nfs server:/b rw
""".strip()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/me/journal.duckdb", ""),
        ("/mnt/nfs/journal.duckdb", "nfs4"),
        ("/mnt/nfs/local/journal.duckdb", ""),
        ("/mnt/nfsnot/journal.duckdb", ""),
        ("/mnt/my share/a/journal.duckdb", "cifs"),
        ("/mnt/ssh/journal.duckdb", "fuse.sshfs"),
        ("/mnt/overlay/journal.duckdb", ""),
        ("/mnt/lustre/journal.duckdb", "lustre"),
        ("/mnt/twice/journal.duckdb", "nfs"),
    ],
)
def test_network_file_systems_are_told_from_local_ones(path: str, kind: str) -> None:
    assert network_file_system(Path(path), MOUNTS) == kind


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert network_file_system(tmp_path) == ""
    monkeypatch.setattr(connection, "network_file_system", lambda path: "nfs4")
    with pytest.raises(NotAllowed, match=r"network file system \(nfs4\)"):
        connection.connect(tmp_path / "journal.duckdb")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_stands_for_the_database_in_it(tmp_path: Path) -> None:
    assert database_path(tmp_path) == tmp_path / "journal.duckdb"
    assert database_path(tmp_path / "new") == tmp_path / "new" / "journal.duckdb"
    assert database_path(tmp_path / "mine.duckdb") == tmp_path / "mine.duckdb"
