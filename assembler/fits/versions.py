"""Superseding: a newer L0 takes the final name in one step, and the one that had it is kept.

The old file is linked to its name in ``superseded`` before rename(2) puts the draft under the final name, so that the
final name is never free and nothing is ever without a name. Correctness rests on these two calls alone, and on no
lock: a lock is lost when its holder sleeps for long enough, and the holder may wake up.

- link(2) to the name in ``superseded`` is done by one process only. Whoever did it may rename.
- Whoever finds the old file there already does not know whether its maker was killed or is just about to rename. So
  every other draft of the L0 is removed first: rename(2) of a draft that is gone fails, whenever it comes. Then, if the
  final name still has the old file, nobody else can take it any more but one who came later, and who removed our draft
  for the same reason: then our own rename(2) fails.
"""

import errno
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from assembler.core.versions import SUPERSEDED, Replaced, is_version, superseded_name, superseded_version
from assembler.errors import GoneError, InputError, OutputError
from assembler.fits.blocks import open_fits, scan_primary, signature_of
from assembler.fits.writer import Draft, drafts_of, sync_directory

_NO_LINKS = (errno.EPERM, errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)

Signature = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The L0 that has the final name: its version, its DATE, and the signature that tells whether it is still the same file."""

    path: Path
    version: int
    written: str
    signature: Signature


def standing_l0(path: Path, filename: str = "") -> Standing:
    """Look at the L0 that has the final name, or is kept as a superseded one of a final name.

    Raises
    ------
    GoneError
        When nothing has it.
    OutputError
        When it is no L0 of that name, and so is not to be superseded.
    """
    try:
        found = scan_primary(str(path))
    except InputError as error:
        if error.reason == "absent":
            raise GoneError(str(error)) from error
        if error.retry:
            raise OutputError(str(error)) from error
        raise OutputError(f"{path} is no L0, and is never overwritten; move it away ({error})", retry=False) from error
    primary = found.hdus[0]
    version, name, written = (primary.value(keyword) for keyword in ("L0VER", "OFNAME", "DATE"))
    if not is_version(version) or name != (filename or path.name):
        told = f"L0VER is {version!a}, OFNAME is {name!a}"
        raise OutputError(f"{path} is no L0 of this name, and is never overwritten; move it away ({told})", retry=False)
    return Standing(path=path, version=version, written=str(written or ""), signature=found.signature)


def newest_superseded(directory: Path, filename: str) -> Standing | None:
    """Look at the newest superseded version of a final name; None when there is none.

    Raises
    ------
    OutputError
        When it is no L0 of that name.
    """
    kept = directory / SUPERSEDED
    try:
        with os.scandir(kept) as entries:
            names = {entry.name for entry in entries}
    except OSError:
        return None
    numbers = [number for name in names if (number := superseded_version(name, filename))]
    return standing_l0(kept / superseded_name(filename, max(numbers)), filename) if numbers else None


def restore_l0(kept: Path, final: Path) -> None:
    """Give a name that no file has back to the newest superseded version of its L0.

    An NFS client moves a file aside that is open on its host when another one takes its name. If it stops right then, nothing has
    the name, and the file that had it is among those that are superseded.

    Raises
    ------
    OutputError
        When the file system refuses.
    """
    try:
        with suppress(FileExistsError):
            os.link(kept, final)
        sync_directory(final.parent)
    except OSError as error:
        raise OutputError(f"{final}: cannot be restored from {kept}: {error.strerror}") from error


def replaced_by(standing: Standing, reason: str) -> Replaced:
    """Return what the next version tells of this one; the whole file is read.

    Raises
    ------
    GoneError
        When it is not there any more.
    OutputError
        When it cannot be read.
    """
    import hashlib  # it brings OpenSSL, and few L0s are superseded

    try:
        with standing.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise GoneError(f"{standing.path}: is not there any more") from error
    except OSError as error:
        raise OutputError(f"{standing.path}: cannot be read: {error.strerror}") from error
    return Replaced(version=standing.version, written=standing.written, sha256=digest, reason=reason)


def supersede_l0(target: Draft, filename: str, standing: Standing) -> Path | None:
    """Put a draft under a name that an older L0 has, which is kept as a superseded one.

    Parameters
    ----------
    target : Draft
        Written, synced and verified.
    filename : str
    standing : Standing
        The L0 that was planned against.

    Returns
    -------
    Path or None
        Where the older L0 is kept. None when the name has another file by now, or the draft is gone because somebody else
        is at it: then nothing was replaced, and it has to be planned again.

    Raises
    ------
    OutputError
        When the file system refuses; the older L0 has its name still.
    """
    directory = target.path.parent
    final, kept = directory / filename, directory / SUPERSEDED / superseded_name(filename, standing.version)
    try:
        if _signature(final) != standing.signature:
            return None
        mine = _keep(final, kept)
        if _signature(kept) != standing.signature:
            if _signature(final) != standing.signature:
                return None
            raise OutputError(f"{kept} is there already, and is another file than {final}; move it away", retry=False)
        if not mine:
            _remove_drafts(directory, filename, but=target)
        if _signature(final) != standing.signature:
            return None
        sync_directory(kept.parent)
        return kept if _take(target, final) else None
    except OSError as error:
        raise OutputError(f"{final}: cannot be superseded: {error.strerror}") from error


def retire_l0(standing: Standing) -> Path:
    """Take the name from an L0 whose exposure has another one under another name by now; it is kept as a superseded one.

    May be called again after a stop at whatever moment.

    Raises
    ------
    OutputError
        When the file system refuses, or another file has the name by now.
    """
    final, directory = standing.path, standing.path.parent
    kept = directory / SUPERSEDED / superseded_name(final.name, standing.version)
    try:
        _keep(final, kept)
        if _signature(kept) != standing.signature or _signature(final) not in (standing.signature, None):
            raise OutputError(f"{final} cannot be kept as {kept}, which is another file; look at both, and move one away", retry=False)
        sync_directory(kept.parent)
        with suppress(FileNotFoundError):  # another assembler was at it, too
            os.unlink(final)
        sync_directory(directory)
    except OSError as error:
        raise OutputError(f"{final}: cannot be superseded: {error.strerror}") from error
    return kept


def finish_retiring(former: Path, newest: Path) -> None:
    """Retire an L0 that the newest one of its exposure, under another name, tells that it replaced: a stop came between the two.

    Raises
    ------
    OutputError
        When one of them cannot be read, or the file system refuses.
    """
    try:
        standing = standing_l0(former)
        sha256 = replaced_by(standing, "").sha256
    except GoneError:  # another assembler did it meanwhile
        return
    if tells_of(newest, sha256):
        retire_l0(standing)


def tells_of(path: Path, sha256: str) -> bool:
    """Tell whether an L0 says that it replaced the file with some SHA-256.

    Raises
    ------
    OutputError
        When it cannot be read.
    """
    try:
        images = scan_primary(str(path)).hdus[0].images
    except InputError as error:
        raise OutputError(str(error)) from error
    return any(image.rstrip() == f"HISTORY SHA-256 {sha256}" for image in images)


def _keep(final: Path, kept: Path) -> bool:
    """Link the old file to its name in ``superseded``; tell whether it was this call that did it.

    Over a network the answer may be lost though the link was made. It counts as somebody else's then, which is safe.
    """
    try:
        kept.parent.mkdir()
        sync_directory(kept.parent.parent)
    except FileExistsError:
        pass
    except OSError as error:
        raise OutputError(f"{kept.parent}: cannot be made: {error.strerror}") from error
    try:
        os.link(final, kept)
    except FileExistsError:
        return False
    except OSError as error:
        if _signature(kept) is not None:
            return False
        told = "hard links are not possible here" if error.errno in _NO_LINKS else "cannot be kept"
        raise OutputError(f"{final} is not superseded: {told}: {kept}: {error.strerror}") from error
    return True


def _remove_drafts(directory: Path, filename: str, *, but: Draft) -> None:
    """Remove every other draft, so that whoever made it cannot rename it any more."""
    for path in drafts_of(directory, filename):
        if path != str(but.path):
            with suppress(FileNotFoundError):
                os.unlink(path)


def _take(target: Draft, final: Path) -> bool:
    """Rename the draft to the final name; False where the draft is gone."""
    mine = None
    try:
        mine = signature_of(target.lock)  # over a network this may tell already that it is gone
        os.rename(target.path, final)
    except OSError as error:
        # Over a network the answer may be lost; the file that has the name now tells.
        if mine is None or _signature(final) != mine:
            if error.errno in (errno.ENOENT, errno.ESTALE):
                return False
            raise
    sync_directory(final.parent)
    return True


def _signature(path: Path) -> Signature | None:
    """Return the signature of the file that has a name now, or None.

    Over a network a name may be remembered that has another file by now. Scanning the directory makes the client look again.
    """
    with os.scandir(path.parent) as entries:
        if all(entry.name != path.name for entry in entries):
            return None
    try:
        with open_fits(str(path)) as (stream, _):
            return signature_of(stream)
    except InputError:
        return None
