"""Which file system a path is on, as the mount table tells."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assembler.service.mounts import filesystem_of, is_remote, read_mountinfo

TABLE = r"""
22 28 0:21 / /proc rw,nosuid shared:13 - proc proc rw
28 0 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
31 28 0:25 / /data rw shared:5 master:2 - nfs4 server:/export rw,vers=4.2
32 31 0:26 / /data/local rw - xfs /dev/vdb rw
33 28 0:27 / /with\040space\011and\134more rw - cifs //server/share rw
34 28 0:28 / /auto rw - autofs systemd-1 rw
35 34 0:29 / /auto rw - nfs server:/auto rw
36 28 0:30 / /over/below rw - ext4 /dev/vdc rw
37 28 0:31 / /over rw - fuse.sshfs host: rw
nonsense
40 28 - x
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/var/lib/journal.db", "ext4"),
        ("/data", "nfs4"),
        ("/data/night/journal.db", "nfs4"),
        ("/database/journal.db", "ext4"),
        ("/data/local/journal.db", "xfs"),
        ("/data/locally/journal.db", "nfs4"),
        ("/with space\tand\\more/journal.db", "cifs"),
        ("/auto/journal.db", "nfs"),
        ("/over/below/journal.db", "fuse.sshfs"),
    ],
)
def test_the_mount_that_is_entered_last_tells(path, kind):
    assert filesystem_of(path, TABLE) == kind
    assert filesystem_of(path, "\n".join(reversed(TABLE.splitlines()))) == kind


def test_where_the_root_is_not_in_the_table_what_is_there_tells():
    table = "50 49 0:1 / /data rw - nfs4 s:/ rw"
    assert filesystem_of("/data/x", table) == "nfs4"
    assert filesystem_of("/elsewhere", table) == ""
    assert filesystem_of("/elsewhere", "1 1 0:1 / / rw - rootfs rootfs rw") == "rootfs"


@given(table=st.text() | st.lists(st.from_regex(r"[1-3] [0-3] 0:1 / /[ab/\\]{0,4} rw - (nfs|ext4)", fullmatch=True)).map("\n".join))
def test_no_table_is_too_strange(table):
    assert isinstance(filesystem_of("/a/b", table), str)


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "fuse", "lustre", "gpfs", "afs", "ceph", "9p", "virtiofs"])
def test_what_others_may_change_is_remote(kind):
    assert is_remote(kind)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "fuseblk", "fuse.fuse-overlayfs", ""])
def test_a_disk_of_this_host_is_not(kind):
    assert not is_remote(kind)


def test_the_table_of_this_system_is_read(tmp_path):
    assert filesystem_of(os.path.realpath(tmp_path), read_mountinfo())
