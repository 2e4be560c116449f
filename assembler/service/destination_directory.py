"""A directory as an archive's store: link(2) gives a file its name, when it was synced, closed and read again from the disk."""

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO

from assembler.core.places import Place
from assembler.core.receipts import Content
from assembler.errors import OutputError, TakenError
from assembler.fits.writer import Draft, draft, publish, remove_abandoned, sync_directory
from assembler.service.destination import chunks, read_content

_MOST_TRIES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """A directory that is there. Files get their names as L0s do, so a network file system is as good as a local one."""

    root: Path

    def url(self, place: Place) -> str:
        """Return the path of a file."""
        return str(self._path(place))

    def names(self, folder: tuple[str, ...]) -> frozenset[str]:
        """Return the names in a folder; none where there is no such folder."""
        path = self.root.joinpath(*folder)
        with _told(path), suppress(FileNotFoundError):
            return frozenset(os.listdir(path))
        return frozenset()

    def read(self, place: Place, longest: int) -> bytes | None:
        """Return what a small file holds, or None where there is none."""
        path = self._path(place)
        with _told(path), self._opened(place) as file:
            text = None if file is None else file.read(longest + 1)
        if text is not None and len(text) > longest:
            raise OutputError(f"{path}: is larger than the {longest >> 20} MiB that it may have", retry=False)
        return text

    def content(self, place: Place) -> Content | None:
        """Read a file, and return what it holds; None where there is none."""
        with _told(self._path(place)), self._opened(place) as file:
            return None if file is None else read_content(file.read)

    def add(self, place: Place, stream: IO[bytes], content: Content) -> None:
        """Keep a file, and give it its name when it was read again and found to be right."""

        def finish(target: Draft) -> None:
            try:
                publish(target, place.name)
            except OutputError as error:
                if isinstance(error.__cause__, FileExistsError):
                    path = str(self._path(place))
                    raise TakenError(f"{path} exists, and nothing in an archive is overwritten", path=path) from error
                raise

        self._write(place, stream, content, finish)

    def replace(self, place: Place, data: bytes) -> None:
        """Keep a small file under a name, in one step, whatever had it before."""

        def finish(target: Draft) -> None:
            with _told(self._path(place)):
                os.replace(target.path, self._path(place))
                sync_directory(target.path.parent)

        self._write(place, BytesIO(data), read_content(BytesIO(data).read), finish)

    @contextmanager
    def alone(self, folder: tuple[str, ...]) -> Iterator[None]:
        """Lock a folder, where directories can be locked; over NFS they cannot."""
        path = self.root.joinpath(*folder)
        with _told(path):
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def tidy(self, folder: tuple[str, ...]) -> None:
        """Remove drafts that nobody locks."""
        remove_abandoned(self.root.joinpath(*folder))

    def close(self) -> None:
        """Do nothing: nothing is held open."""

    def _path(self, place: Place) -> Path:
        return self.root.joinpath(*place.folder, place.name)

    @contextmanager
    def _opened(self, place: Place) -> Iterator[IO[bytes] | None]:
        """Open a regular file that is there; the folder is read first, as a network file system remembers names that were not."""
        if place.name not in self.names(place.folder):
            yield None
            return
        # A link is not followed: a file that is elsewhere is not in the archive.
        path = self._path(place)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise OutputError(f"{path}: is a symbolic link, and no file of the archive", retry=False) from error
            raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OutputError(f"{path}: is no regular file", retry=False)
        with open(descriptor, "rb", buffering=0) as file:
            yield file

    def _write(self, place: Place, stream: IO[bytes], content: Content, finish: Callable[[Draft], None]) -> None:
        """Write a draft, sync and close it, read it again, and finish with it.

        A draft is locked right after it is made. Another archiver may take it for abandoned in between, and then it is made anew.
        """
        folder = self._folder(place.folder)
        for tries in range(_MOST_TRIES):
            with draft(folder, place.name) as target:
                try:
                    self._fill(target, place, stream, content)
                    finish(target)
                except TakenError:
                    raise
                except OutputError:
                    if tries + 1 < _MOST_TRIES and target.is_gone():
                        continue
                    raise
                return

    def _fill(self, target: Draft, place: Place, stream: IO[bytes], content: Content) -> None:
        with _told(target.path.parent), open(target.path, "r+b", buffering=0) as file:
            for piece in chunks(stream, content):
                view = memoryview(piece)
                while view:
                    view = view[file.write(view) :]
            os.fsync(file.fileno())
            with suppress(OSError):  # so that it is the disk that is read, and not the memory that it was written from
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        with _told(target.path.parent), open(target.path, "rb", buffering=0) as file:
            arrived = read_content(file.read)
        if arrived != content:
            raise OutputError(f"{self._path(place)}: what arrived is not what was sent; it was removed")

    def _folder(self, folder: tuple[str, ...]) -> Path:
        """Make folders, and bring the name of each to the disk, whoever made it."""
        path = self.root
        for part in folder:
            parent, path = path, path / part
            with _told(path):
                path.mkdir(exist_ok=True)
                sync_directory(parent)
        return path


def open_directory(path: Path) -> Directory:
    """Return a directory as a store.

    Raises
    ------
    OutputError
        When it is not there: one that is made in passing would hide that a disk is not mounted.
    """
    root = Path(os.path.abspath(path))
    with _told(root):
        os.close(os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    return Directory(root=root)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Tell what a file system cannot do as what it is: a failure of the store."""
    try:
        yield
    except FileNotFoundError as error:
        raise OutputError(f"{path}: there is no such file or directory") from error
    except (OSError, ValueError) as error:
        raise OutputError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
