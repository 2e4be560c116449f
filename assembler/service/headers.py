"""Files that have the headers of an L0 and not its pixels: written whole or not at all, and never over anything else."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from assembler.core.cards import is_printable
from assembler.core.headers import JSON_BEGINS, YAML_BEGINS, Header, json_text, without_pixels, yaml_text
from assembler.core.plan import OWN_TABLES
from assembler.core.primary import HEADERS_ALONE
from assembler.core.versions import is_version
from assembler.errors import ConfigurationError, InputError, OutputError
from assembler.fits.blocks import open_fits, padded, scan, scan_primary
from assembler.fits.sums import word_sum
from assembler.fits.writer import draft, remove_abandoned, render_header, sync_directory
from assembler.service.reader import check_table_length


def check_suffix(path: Path) -> None:
    """Raise `ConfigurationError` where the suffix of a file tells no form that headers are written in."""
    if path.suffix not in _FORMS:
        *others, last = _FORMS
        raise ConfigurationError(f"--write {path}: headers are written as {', '.join(others)} or {last}")


def headers_of_l0(path: Path) -> tuple[str, tuple[Header, ...]] | None:
    """Return the name and the headers of an L0 as they are; None for what is no L0.

    Raises
    ------
    InputError
        When it is one, and is damaged, or a card of it is no text.
    """
    try:
        found = scan(str(path))
    except InputError:
        if _says_it_is_one(path):
            raise
        return None
    names = ["PRIMARY", *(hdu.extname for hdu in found.hdus[1:])]
    if tuple(names[1:][-len(OWN_TABLES) :]) != OWN_TABLES:
        if _says_it_is_one(path):
            raise InputError(f"{path}: is no L0 that is whole: its last HDUs are not {', '.join(OWN_TABLES)}", path=str(path))
        return None
    headers = []
    with open_fits(str(path)) as (stream, _):
        for name, hdu in zip(names, found.hdus, strict=True):
            if not is_printable("".join(hdu.images)):
                raise InputError(
                    f"{path}, HDU {hdu.index}: a card is no text that FITS allows; assembler verify tells more", path=str(path)
                )
            is_own = hdu.index >= len(names) - len(OWN_TABLES)
            if is_own:
                check_table_length(str(path), hdu)
            stream.seek(hdu.offset)
            rows = stream.read(hdu.length) if is_own else b""
            headers.append(Header(name=name, cards=hdu.images, rows=rows, has_pixels=not is_own and hdu.length > 0))
    told = found.hdus[0].value("OFNAME")
    return told if isinstance(told, str) else path.name, tuple(headers)


def _says_it_is_one(path: Path) -> bool:
    """Tell whether a primary is that of an L0, whatever follows it."""
    try:
        return is_version(scan_primary(str(path)).hdus[0].value("L0VER"))
    except InputError:
        return False


def write_headers(path: Path, headers: Sequence[Header], filename: str) -> None:
    """Write the headers of an L0 in the form that the suffix tells.

    Parameters
    ----------
    path : Path
        Another file that was written so may have the name; it is replaced.
    headers : sequence of Header
    filename : str
        The L0's name.

    Raises
    ------
    ConfigurationError
        When the suffix is another one.
    OutputError
        When a file of another kind has the name, or the disk does not take it.
    """
    check_suffix(path)
    parts = _FORMS[path.suffix](headers, filename)
    directory = path.parent
    remove_abandoned(directory, path.name)
    with draft(directory, path.name) as target:
        try:
            with target.path.open("r+b") as file:
                file.writelines(parts)
                file.flush()
                os.fsync(file.fileno())
            _check_replaceable(path)
            target.path.replace(path)
            sync_directory(directory)
        except OSError as error:
            raise OutputError(f"{path}: cannot be written: {error.strerror}") from error


def _check_replaceable(path: Path) -> None:
    """Raise `OutputError` where a name has a file that is no such product."""
    if not os.path.lexists(path):
        return
    try:
        if path.suffix == ".fits":
            ours = scan_primary(str(path)).hdus[0].record(HEADERS_ALONE) is not None
        else:
            begins = {".yaml": YAML_BEGINS, ".json": JSON_BEGINS}[path.suffix].encode("ascii")
            with open_fits(str(path)) as (stream, _):  # which waits for nobody, as a pipe would have it
                ours = stream.read(len(begins)) == begins
    except (InputError, OSError):
        ours = False
    if not ours:
        raise OutputError(f"{path}: is there, and no headers that the assembler wrote; it is not overwritten", retry=False)


def _as_fits(headers: Sequence[Header], filename: str) -> Iterable[bytes]:
    for header in without_pixels(headers, filename):
        rows = header.rows.ljust(padded(len(header.rows)), b"\0")
        yield render_header(header.cards, word_sum(rows))
        yield rows


def _as_yaml(headers: Sequence[Header], _filename: str) -> Iterable[bytes]:
    return (part.encode("ascii") for part in yaml_text(headers))


def _as_json(headers: Sequence[Header], _filename: str) -> Iterable[bytes]:
    return (json_text(headers[0]).encode("ascii"),)


_FORMS: dict[str, Callable[[Sequence[Header], str], Iterable[bytes]]] = {".fits": _as_fits, ".yaml": _as_yaml, ".json": _as_json}
