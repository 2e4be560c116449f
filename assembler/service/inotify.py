"""One inotify instance, through watchdog's binding of the kernel's functions; imported only where inotify is used.

watchdog's observer would take a thread for each directory, hold renames back for half a second and keep to itself that events were
lost; docs/decisions/0016 tells why its binding is used and its observer is not.
"""

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, cast

from watchdog.observers.inotify_c import InotifyConstants, inotify_add_watch, inotify_init, inotify_rm_watch

if TYPE_CHECKING:
    from watchdog.observers.inotify_c import WatchDescriptor

CLOSED = int(InotifyConstants.IN_CLOSE_WRITE | InotifyConstants.IN_MOVED_TO)
"""A file is whole, as far as its writer is concerned."""
CREATED = int(InotifyConstants.IN_CREATE)
"""A name is there that was not: what was told of it before is of another file."""
LEFT = int(InotifyConstants.IN_DELETE_SELF | InotifyConstants.IN_MOVE_SELF | InotifyConstants.IN_IGNORED | InotifyConstants.IN_UNMOUNT)
"""The directory itself was removed, renamed or unmounted, or is not watched any more."""
IS_DIRECTORY = int(InotifyConstants.IN_ISDIR)
OVERFLOW = int(InotifyConstants.IN_Q_OVERFLOW)

# IN_MODIFY is not asked for: it comes with every write, tells nothing that counts, and would fill the queue. What happens to a file
# whose name was removed (IN_EXCL_UNLINK) must not be told of the next file of that name.
_ASKED = (
    CLOSED
    | CREATED
    | int(InotifyConstants.IN_DELETE | InotifyConstants.IN_MOVED_FROM | InotifyConstants.IN_DELETE_SELF | InotifyConstants.IN_MOVE_SELF)
    | int(InotifyConstants.IN_ONLYDIR | InotifyConstants.IN_EXCL_UNLINK)
)
_HEAD = struct.Struct("iIII")  # struct inotify_event: watch, mask, cookie, length of the name
_BUFFER = 1 << 18


class Notice(NamedTuple):
    """An event: the number of its watch (-1 for all), what happened, and the name in the directory, empty for itself."""

    watch: int
    mask: int
    name: str


class Inotify:
    """An inotify instance; one thread uses it.

    Raises
    ------
    OSError
        When the system gives no more of them.
    """

    def __init__(self) -> None:
        self._descriptor = inotify_init()
        if self._descriptor < 0:
            raise _failure()
        os.set_inheritable(self._descriptor, False)
        os.set_blocking(self._descriptor, False)

    def fileno(self) -> int:
        """Return the descriptor, to wait for events on."""
        return self._descriptor

    def add(self, directory: str) -> int:
        """Watch a directory, and return the number of its watch: the same as long as the path leads to the same directory.

        Raises
        ------
        OSError
            When it is not there or is none, must not be read, or the system watches no more.
        """
        number = int(inotify_add_watch(self._descriptor, os.fsencode(directory), _ASKED))
        if number < 0:
            raise _failure()
        return number

    def remove(self, number: int) -> None:
        """End a watch; one that has ended by itself is fine."""
        inotify_rm_watch(self._descriptor, cast("WatchDescriptor", number))

    def read(self) -> Iterator[Notice]:
        """Yield the events that there are by now.

        Raises
        ------
        OSError
            When they cannot be read.
        """
        try:
            read = os.read(self._descriptor, _BUFFER)
        except BlockingIOError:
            return
        place = 0
        while place < len(read):
            number, mask, _, length = _HEAD.unpack_from(read, place)
            place += _HEAD.size
            yield Notice(number, mask, os.fsdecode(read[place : place + length].rstrip(b"\0")))
            place += length

    def close(self) -> None:
        """Let go of the instance and all its watches."""
        os.close(self._descriptor)


def _failure() -> OSError:
    number = ctypes.get_errno()
    told = {
        errno.ENOSPC: "the system watches no more directories (fs.inotify.max_user_watches)",
        errno.EMFILE: "the system has no more inotify instances or descriptors (fs.inotify.max_user_instances, ulimit -n)",
    }
    return OSError(number, told.get(number) or os.strerror(number))
