"""Read an L0 again, as a stranger: every byte summed, every card compared, every HDU opened by cfitsio."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from assembler.core.exposure import Hdu, SubFits
from assembler.core.plan import OWN_TABLES, Plan
from assembler.core.primary import HEADERS_ALONE
from assembler.core.versions import SUPERSEDED, apart_from_version, is_version, superseded_name
from assembler.errors import InputError, VerificationError
from assembler.fits.blocks import fill, open_fits, scan
from assembler.fits.pace import Pace, at_once
from assembler.fits.sums import fold, word_sum
from assembler.fits.threads import side_by_side

_BUFFER = 1 << 20
_SEGMENT = 16 << 20
_MOST = 20
_SUMS = ("CHECKSUM", "DATASUM ")


def verify_plan(path: Path, plan: Plan, sums: Mapping[str, int], *, ignore_date: bool = False, pace: Pace = at_once) -> None:
    """Verify that a file is what was planned, and that its data are those of the sub-FITS.

    Parameters
    ----------
    path : Path
    plan : Plan
        As concluded.
    sums : mapping of str to int
        By HDU, what its data unit sums up to: of an extension from a sub-FITS, that of the bytes there.
    ignore_date : bool
        Compare an L0 that was written at another time: DATE, and what tells of its version, may differ.
    pace : callable
        What reading it keeps to.

    Raises
    ------
    VerificationError
        That names what differs.
    """
    found, problems = _check_file(path, pace)
    names = ["PRIMARY", *(h.extname for h in found.hdus[1:])]
    if names != [h.name for h in plan.hdus]:
        problems.append(f"HDUs are {' '.join(names)}, planned were {' '.join(h.name for h in plan.hdus)}")
    else:
        for hdu, planned in zip(found.hdus, plan.hdus, strict=True):
            there = [i for i in hdu.images if not i.startswith(_SUMS)]
            wanted = list(planned.cards)
            if ignore_date and planned.name == "PRIMARY":
                there, wanted = apart_from_version(there), apart_from_version(wanted)
            if there != wanted:
                problems.append(f"{planned.name}: {_first_difference(there, wanted)}")
            told = _datasum(hdu)
            if told != sums[planned.name]:
                problems.append(f"{planned.name}: DATASUM is {told}, that of what belongs there is {sums[planned.name]}")
    _raise(path, problems)


def verify_file(path: Path) -> None:
    """Verify an L0 by itself: its structure, its checksums, its name (or that of a superseded version), and its ledger.

    Raises
    ------
    VerificationError
        That names what is wrong.
    """
    found, problems = _check_file(path)
    names = [h.extname for h in found.hdus]
    if tuple(names[-len(OWN_TABLES) :]) != OWN_TABLES:
        problems.append(f"the last HDUs are {' '.join(names[-3:])}, not {' '.join(OWN_TABLES)}: this is no L0")
    if len(set(names[1:])) != len(names) - 1:
        problems.append("two HDUs have one name")
    if found.hdus[0].record(HEADERS_ALONE):
        problems.append("it has the headers of an L0 and not its pixels: this is no L0")
    told = found.hdus[0].value("OFNAME")
    if told != path.name and not _is_superseded(path, found.hdus[0]):
        problems.append(f"the file is named {path.name}, its OFNAME is {told}")
    _raise(path, problems)


def _is_superseded(path: Path, primary: Hdu) -> bool:
    """Tell whether an L0 is where, and named as, this version of it is kept after it was replaced."""
    name, version = primary.value("OFNAME"), primary.value("L0VER")
    if not isinstance(name, str) or not is_version(version):
        return False
    return path.absolute().parent.name == SUPERSEDED and path.name == superseded_name(name, version)


def _check_file(path: Path, pace: Pace = at_once) -> tuple[SubFits, list[str]]:
    """Scan a file, sum every HDU, and let cfitsio open each."""
    try:
        found = scan(str(path))
    except InputError as error:
        if error.reason == "absent":
            raise
        raise VerificationError(str(error)) from error
    problems = sum_problems(found, pace)
    _open_with_cfitsio(path, found.hdus)
    return found, problems


def _sums(found: SubFits, pace: Pace) -> list[int]:
    """Return the sum of each data unit, read side by side where it is large."""
    parts = [
        (hdu.index, hdu.offset + start, min(_SEGMENT, hdu.length - start)) for hdu in found.hdus for start in range(0, hdu.length, _SEGMENT)
    ]
    small = found.compressed or sum(length for _, _, length in parts) <= _SEGMENT
    jobs = [parts] if small else [[part] for part in parts]
    totals = [0] * len(found.hdus)
    for results in side_by_side(lambda job: _sums_of(found.path, job, pace), jobs):
        for index, part in results:
            totals[index] = fold(totals[index] + part)
    return totals


def _sums_of(path: str, parts: Sequence[tuple[int, int, int]], pace: Pace) -> list[tuple[int, int]]:
    """Return the sums of parts of a file, each an HDU's number, an offset and a length [bytes], a multiple of 4.

    Raises
    ------
    VerificationError
        When they cannot be read.
    """
    results = []
    buffer = memoryview(bytearray(min(_BUFFER, max((length for _, _, length in parts), default=0))))
    try:
        with open_fits(path) as (stream, _):
            for index, offset, length in parts:
                stream.seek(offset)
                total, left = 0, length
                while left:
                    wanted = min(len(buffer), left)
                    pace(wanted)
                    part = fill(stream, buffer[:wanted])
                    if not part:
                        break
                    total += word_sum(part)
                    left -= len(part)
                results.append((index, fold(total)))
    except (OSError, InputError) as error:  # it was whole when it was scanned
        raise VerificationError(f"{path}: cannot be read again: {error}") from error
    return results


def sum_problems(found: SubFits, pace: Pace = at_once) -> list[str]:
    """Say what does not fit of a file's checksums, and what of it has none; the whole file is read.

    Raises
    ------
    VerificationError
        When it cannot be read.
    """
    problems = [f"{found.trailing} bytes after the last HDU"] if found.trailing else []
    for hdu, data_sum in zip(found.hdus, _sums(found, pace), strict=True):
        problems += hdu_problems(hdu, data_sum)
    return problems


def hdu_problems(hdu: Hdu, data_sum: int) -> list[str]:
    """Say what does not fit of an HDU's checksums; both have to be there.

    Parameters
    ----------
    hdu : Hdu
    data_sum : int
        What its data unit sums up to.
    """
    return [f"{hdu.extname or f'HDU {hdu.index}'}: {fault}" for fault in checksum_faults(hdu, data_sum)]


def checksum_faults(hdu: Hdu, data_sum: int) -> tuple[str, ...]:
    """Say the same without the HDU's name."""
    told = _datasum(hdu)
    fits = not (hdu.header_sum + data_sum) % 0xFFFFFFFF and hdu.record("CHECKSUM") is not None
    faults = (
        f"DATASUM is {told}, that of the data is {data_sum}" if told != data_sum else "",
        "" if fits else "CHECKSUM does not fit the HDU",
    )
    return tuple(fault for fault in faults if fault)


def opens_with_cfitsio(sub: SubFits) -> bool:
    """Tell whether cfitsio opens every HDU of a sub-FITS."""
    names, _ = _names_by_cfitsio(sub.path)
    return len(names) == len(sub.hdus)


def _open_with_cfitsio(path: Path, hdus: Sequence[Hdu]) -> None:
    """Raise `VerificationError` when cfitsio does not open every HDU, under its name."""
    names, told = _names_by_cfitsio(str(path))
    mine = [hdu.extname for hdu in hdus]
    if told:
        raise VerificationError(f"{path}: cfitsio cannot open it: {told}")
    if len(names) < len(mine) and names == mine[: len(names)]:
        raise VerificationError(f"{path}: cfitsio cannot open the HDU {mine[len(names)]}", extension=mine[len(names)])
    if names != mine:
        raise VerificationError(f"{path}: cfitsio finds the HDUs {' '.join(names)}, not {' '.join(mine)}")


def _names_by_cfitsio(path: str) -> tuple[list[str], str]:
    """Return the EXTNAMEs that cfitsio finds, and what it complains of; it stops without a word at some HDUs."""
    import fitsio  # costs 0.1 s, and only whoever verifies needs it

    try:
        with fitsio.FITS(path) as opened:
            return [hdu.get_extname() for hdu in opened], ""
    except (OSError, ValueError, RuntimeError) as error:
        return [], " ".join(ascii(str(error))[1:-1].split()) or "no reason given"


def _datasum(hdu: Hdu) -> int | None:
    told = str(hdu.value("DATASUM") or "").strip()
    return int(told) if told.isdecimal() and len(told) <= 10 else None


def _first_difference(there: Sequence[str], wanted: Sequence[str]) -> str:
    for index, (mine, planned) in enumerate(zip(there, wanted, strict=False)):
        if mine != planned:
            return f"card {index + 1} is {mine.rstrip()!a}, planned was {planned.rstrip()!a}"
    return f"{len(there)} cards, planned were {len(wanted)}"


def _raise(path: Path, problems: Sequence[str]) -> None:
    if problems:
        more = f" (and {len(problems) - _MOST} more)" if len(problems) > _MOST else ""
        raise VerificationError(f"{path}: {'; '.join(problems[:_MOST])}{more}")
