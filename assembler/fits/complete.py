"""Whether a sub-FITS is all there, by its bytes."""

import os
from dataclasses import dataclass
from typing import IO

from assembler.core.exposure import SubFits
from assembler.core.settling import Signature, Verdict
from assembler.errors import InputError
from assembler.fits.blocks import open_fits, scan_open, signature_of

_XTENSION = b"XTENSION"


@dataclass(frozen=True, slots=True, kw_only=True)
class Completeness:
    """What one look at a file told.

    Attributes
    ----------
    path : str
    verdict : str
        One of `assembler.core.settling.Verdict`.
    signature : tuple of int or None
        Size [bytes], modification time [ns] and inode when it was opened; None when it could not be.
    compressed : bool
        Whether its bytes are gzip.
    trailing : int
        Bytes after its last HDU.
    message : str
        What is wrong, in one line with the file; empty when it is complete.
    sub : SubFits or None
        What is in it, so that it need not be scanned again; None when not every HDU that it begins is whole.
    """

    path: str
    verdict: Verdict
    signature: Signature | None = None
    compressed: bool = False
    trailing: int = 0
    message: str = ""
    sub: SubFits | None = None


def look(path: str) -> Completeness:
    """Open a file, and tell whether its HDUs are all there: once, without waiting, and without an exception.

    A file that was cut exactly where an HDU ends is complete: FITS does not say how many HDUs there are to come. So is one whose
    headers are all written and whose space was reserved, though zeros are where its pixels will be. Time has to tell both
    (`assembler.core.settling`). A compressed file is read to its end, and is complete only with its checksum.
    """
    try:
        with open_fits(path) as (stream, compressed):
            return _look(stream, compressed, path)
    except InputError as error:
        return Completeness(path=path, verdict="absent" if error.reason == "absent" else "unreadable", message=str(error))
    except OSError as error:  # the server went away between opening and looking
        return Completeness(path=path, verdict="unreadable", message=f"{path}: cannot be read: {error.strerror}")


def _look(stream: IO[bytes], compressed: bool, path: str) -> Completeness:
    signature = signature_of(stream)
    sub, message = None, ""
    verdict: Verdict = "complete"
    try:
        sub = scan_open(stream, compressed, path)
    except InputError as error:
        verdict, message = "growing" if error.reason == "truncated" else "unreadable", str(error)
    if sub and sub.trailing:
        verdict, message = "trailing", f"{path} has {sub.trailing} bytes after its last HDU"
    zeros = "" if compressed else _zeros(stream.fileno(), signature[0], sub)
    if zeros:
        verdict, message = "preallocated", f"{path}: there are zeros where {zeros} should be"
    elif signature_of(stream) != signature:
        verdict, message = "growing", f"{path} changed while it was looked at"
    trailing = sub.trailing if sub else 0
    return Completeness(path=path, verdict=verdict, signature=signature, compressed=compressed, trailing=trailing, message=message, sub=sub)


def _zeros(descriptor: int, size: int, sub: SubFits | None) -> str:
    """Return what zeros stand for in a file whose space may have been reserved, or the empty string."""
    if os.pread(descriptor, 1, 0) == b"\0":
        return "SIMPLE"
    if sub is None:
        return ""  # zeros for the end of a header are read as an end of the file: both are still to be written
    for hdu in sub.hdus:
        if "\0" in "".join(hdu.images):
            return f"cards of HDU {hdu.index}"
    if sub.trailing and _XTENSION.startswith(os.pread(descriptor, len(_XTENSION), size - sub.trailing).rstrip(b"\0")):
        return f"HDU {len(sub.hdus)}"
    return ""
