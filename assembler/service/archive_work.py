"""The bytes that go into an archive: an L0 as it is, or a Rice-compressed copy of it in a directory that nobody keeps."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from assembler.core.receipts import Content
from assembler.errors import InputError, OutputError, VerificationError
from assembler.service.archive_candidates import Candidate
from assembler.service.archive_results import RefusalError
from assembler.service.destination import read_content

RICE = "rice"
RICE_SUFFIX = ".fz"
_PREFIX = "l0-archive-"


@contextmanager
def as_archived(candidate: Candidate, compressed: str | None) -> Iterator[tuple[IO[bytes], Content]]:
    """Lend what is to be kept of an L0: open for reading, and what it holds.

    Raises
    ------
    RefusalError
        When its compressed copy does not give it back.
    InputError
        When it changed meanwhile.
    OutputError
        When there is no room for the copy.
    """
    if compressed is None:
        yield candidate.stream, candidate.l0.content
        return
    from assembler.fits.tiles import compress_l0

    with _workplace() as directory:
        copy = directory / f"{candidate.l0.name}{RICE_SUFFIX}"
        try:
            compress_l0(candidate.path, copy)
        except VerificationError as error:
            candidate.check_unchanged()
            raise RefusalError("verification", str(error)) from None
        candidate.check_unchanged()  # the copy was made by its name
        try:
            stream = open(copy, "rb", buffering=0)  # noqa: SIM115 - what cannot be opened is told; what is opened is closed below
        except OSError as error:
            raise OutputError(f"{copy}: {error.strerror}") from error
        with stream:
            try:
                content = read_content(stream.read)
            except OSError as error:
                raise InputError(f"{copy}: cannot be read: {error.strerror}", retry=True) from error
            yield stream, content


@contextmanager
def _workplace() -> Iterator[Path]:
    """Make a directory for one copy, and lock it; remove it on the way out, and those that killed archivers left."""
    home = Path(tempfile.gettempdir())
    try:
        _remove_abandoned(home)
        directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=home))
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise OutputError(f"{home}: {error.strerror}") from error
    try:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def _remove_abandoned(home: Path) -> None:
    """Remove directories of this user that nobody locks; other users have the same place for theirs."""
    for name in os.listdir(home):
        if not name.startswith(_PREFIX):
            continue
        with suppress(OSError):
            descriptor = os.open(home / name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if os.fstat(descriptor).st_uid == os.geteuid():
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(home / name, ignore_errors=True)
            finally:
                os.close(descriptor)
