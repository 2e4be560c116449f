"""What the rig is: two mounts of one NFS, which the house knows for what they are."""

import os

import pytest

from assembler.errors import ConfigurationError
from assembler.service.journal import Journal
from assembler.service.mounts import filesystem_of, is_remote, read_mountinfo


@pytest.mark.parametrize("side", ["a", "b"])
def test_a_mount_is_known_for_an_nfs(mounts, side):
    kind = filesystem_of(os.path.realpath(getattr(mounts, side)), read_mountinfo())
    assert (kind, is_remote(kind)) == ("nfs4", True)


def test_the_disk_of_the_server_is_none(mounts):
    assert filesystem_of(os.path.realpath(mounts.export), read_mountinfo()) == "tmpfs"


def test_what_one_writes_the_other_reads(mounts):
    (mounts.a / "word").write_text("told")
    assert (mounts.b / "word").read_text() == "told"
    assert (mounts.export / "word").read_text() == "told"


def test_a_journal_on_an_nfs_is_refused_and_nothing_is_made_there(mounts, tmp_path):
    (tmp_path / "aside").symlink_to(mounts.a)
    for path in (mounts.a / "journal.db", tmp_path / "aside" / "below" / "journal.db"):
        with pytest.raises(ConfigurationError, match=r"journal.db: is on a network file system \(nfs4\), .*; name a path on a local disk"):
            Journal(path, lambda: 10**18)
    assert mounts.names() == []
