"""What an L0 tells for the message of it: read where that version is now, and once, however often the message is sent."""

import hashlib
from pathlib import Path

from assembler.core.announcements import Account, Earlier, Notice, earlier_version
from assembler.core.exposure import SubFits
from assembler.core.versions import SUPERSEDED, superseded_name
from assembler.errors import InputError
from assembler.fits.blocks import open_fits, scan, scan_primary, signature_of
from assembler.service.reader import own_table


def account_of(notice: Notice) -> Account:
    """Read the L0 that a notice is about: under its final name, or in ``superseded`` where a newer version has that by now.

    Raises
    ------
    InputError
        When no file there is that version, or it cannot be read now.
    """
    for path in (Path(notice.path), kept_path(Path(notice.path), notice.version)):
        if _is_there(path) and _is_meant(scan_primary(str(path)), notice):
            return _account(path, notice)
    told = f"{notice.path}: version {notice.version}, written {notice.written}, is not there, nor in {SUPERSEDED}"
    raise InputError(f"{told}; put it back, or give its announcement up (assembler announce --skip)", path=notice.path)


def account_elsewhere(notice: Notice, l0: Path, size: int, sha256: str) -> Account:
    """Read what is told of an L0 of which a copy is elsewhere, with that size [bytes] and checksum; only its headers are read.

    Raises
    ------
    InputError
        When it is no L0, or cannot be read.
    """
    found = scan(str(l0))
    return _told(found, notice, l0, size, sha256)


def kept_path(path: Path, version: int) -> Path:
    """Return where a version of an L0 is kept once it is superseded."""
    return path.parent / SUPERSEDED / superseded_name(path.name, version)


def _account(path: Path, notice: Notice) -> Account:
    found = scan(str(path))
    with open_fits(str(path)) as (stream, compressed):
        signature = signature_of(stream)
        if compressed:
            raise InputError(f"{path}: is compressed, and no L0 as it was published", path=str(path))
        try:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}", path=str(path), retry=True) from error
    account = _told(found, notice, path, signature[0], digest)
    if not signature == found.signature == scan_primary(str(path)).signature or not _is_meant(found, notice):
        raise InputError(f"{path} was superseded while it was read", path=str(path), retry=True)
    return account


def _told(found: SubFits, notice: Notice, path: Path, size: int, sha256: str) -> Account:
    primary = found.hdus[0]
    frame, begin = primary.value("FRAMENO"), primary.value("DATE-BEG")
    return Account(
        path=str(path),
        size=size,
        sha256=sha256,
        origins=tuple(dict.fromkeys(str(row[0]) for row in own_table(found, "CARDS").rows)),
        codes=[(str(row[1]), str(row[0])) for row in own_table(found, "FINDINGS").rows],
        frame=frame if isinstance(frame, int) and not isinstance(frame, bool) else None,
        begin=begin if isinstance(begin, str) else None,
        supersedes=_earlier(found, notice),
    )


def _earlier(found: SubFits, notice: Notice) -> Earlier | None:
    history = [image[8:] for image in found.hdus[0].images if image.startswith("HISTORY ")]
    told = earlier_version(history, notice.version)
    if told is None:
        return None
    version, sha256 = told
    kept = Path(notice.replaced) if notice.replaced else kept_path(Path(notice.path), version)
    return Earlier(path=str(kept) if _is_there(kept) else "", version=version, sha256=sha256)


def _is_meant(found: SubFits, notice: Notice) -> bool:
    """Tell whether a file is the one that was put: the name may have another one by now."""
    primary = found.hdus[0]
    return primary.value("L0VER") == notice.version and str(primary.value("DATE") or "") == notice.written


def _is_there(path: Path) -> bool:
    """Tell whether there is a file.

    Raises
    ------
    InputError
        When that cannot be told now.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}", path=str(path), retry=True) from error
    return True
