"""Which file system a path is on: a journal belongs on a local one, and only there does inotify report everything."""

import re
from pathlib import Path
from typing import NamedTuple

MOUNTINFO = Path("/proc/self/mountinfo")

_REMOTE = frozenset({
    "9p", "acfs", "afs", "autofs", "beegfs", "ceph", "cifs", "coda", "davfs", "dvs", "fhgfs", "gfs2", "glusterfs", "gpfs", "kafs",
    "lustre", "mmfs", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs", "prl_fs", "pvfs2", "smb2", "smb3", "smbfs", "vboxsf",
    "virtiofs", "vmhgfs", "wekafs",
})  # fmt: skip
_LOCAL_FUSE = frozenset({"fuse.fuse-overlayfs"})
_ESCAPE = re.compile(r"\\([0-7]{3})")


class _Mount(NamedTuple):
    number: str
    parent: str
    point: str
    kind: str


def read_mountinfo() -> str:
    """Return the mount table of this process; empty where the system has none."""
    try:
        return MOUNTINFO.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def filesystem_of(path: str, mountinfo: str) -> str:
    r"""Return the type of the file system that a path is on; empty where the mount table does not tell.

    Parameters
    ----------
    path : str
        Absolute, and without symbolic links.
    mountinfo : str
        As in ``/proc/self/mountinfo``; lines that are not as they should be are passed over.

    Notes
    -----
    Mounts are followed down from the root, as the kernel does it, so that one which another was mounted over does not count.

    >>> table = "1 0 0:1 / / rw - ext4 /dev/sda rw", r"2 1 0:2 / /data/night\0401 rw - nfs4 server:/night rw"
    >>> filesystem_of("/data/night 1/frame.fits", "\n".join(table))
    'nfs4'
    """
    above = [m for m in map(_read, mountinfo.split("\n")) if m and _is_below(path, m.point)]
    numbers = {m.number for m in above}
    entered = [m for m in above if m.parent not in numbers or m.parent == m.number]
    kind = ""
    while entered:
        inner = min(entered, key=lambda m: len(m.point))
        above.remove(inner)
        kind = inner.kind
        entered = [m for m in above if m.parent == inner.number]
    return kind


def is_remote(kind: str) -> bool:
    """Tell whether others may change a file system of a type without this kernel being told.

    A FUSE file system counts as remote: most are, and what happens beneath one is not reported.

    >>> is_remote("nfs4"), is_remote("fuse.sshfs"), is_remote("ext4"), is_remote("fuseblk")
    (True, True, False, False)
    """
    return kind in _REMOTE or ((kind == "fuse" or kind.startswith("fuse.")) and kind not in _LOCAL_FUSE)


def _read(line: str) -> _Mount | None:
    before, _, after = line.partition(" - ")
    fields, kind = before.split(" "), after.split(" ")[0]
    if len(fields) < 6 or not kind:
        return None
    return _Mount(number=fields[0], parent=fields[1], point=_ESCAPE.sub(lambda found: chr(int(found[1], 8)), fields[4]), kind=kind)


def _is_below(path: str, point: str) -> bool:
    return path == point or path.startswith(point.rstrip("/") + "/")
