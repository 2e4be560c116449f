"""What an L0 tells of its exposure, for a journal that is made anew."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from assembler.core.exposure import MISSING_CODES, SubFits
from assembler.core.instants import parse_iso
from assembler.core.instrument import Instrument, Origin
from assembler.core.primary import HEADERS_ALONE
from assembler.errors import InputError
from assembler.fits.blocks import scan
from assembler.service.journal_reader import ExposureName, Sighting
from assembler.service.reader import own_table


@dataclass(frozen=True, slots=True, kw_only=True)
class L0Account:
    """What one L0 tells; ``written`` is its DATE [ns], ``missing`` why it lacks an origin, by origin."""

    path: str
    name: ExposureName
    version: int
    written: int
    sub_fits: tuple[Sighting, ...]
    findings: dict[str, int]
    missing: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """What came of making a journal anew: how many L0s were noted, and which could not be read, each with the reason."""

    noted: int
    refused: tuple[tuple[str, str], ...]


def read_l0s(paths: Iterable[Path | str], instrument: Instrument) -> tuple[list[L0Account], tuple[tuple[str, str], ...]]:
    """Read L0s, in the order in which they were written, and tell which of the paths are none."""
    accounts, refused = [], []
    for path in paths:
        try:
            accounts.append(read_l0(str(path), instrument))
        except InputError as error:
            refused.append((str(path), str(error)))
    return sorted(accounts, key=lambda a: (a.written, a.version, a.path)), tuple(refused)


def read_l0(path: str, instrument: Instrument) -> L0Account:
    """Read what an L0 tells of its exposure: its frame, its version, of which sub-FITS it was made, and its findings.

    The night is the directory below which the YAML's patterns place most of the sub-FITS. A path that is not ASCII is not told
    as it was, since a header cannot hold it.

    Raises
    ------
    InputError
        When it cannot be read, or is no L0 of this instrument.
    """
    found = scan(path)
    findings = own_table(found, "FINDINGS").rows
    severities = Counter(str(row[1]) for row in findings)
    values = found.hdus[0].values()
    made_of = _made_of(found, instrument)
    attached = [origin.name for origin, _ in made_of]
    name = exposure_of(found, instrument)
    try:
        written = parse_iso(str(values.get("DATE")))
    except ValueError as error:
        raise InputError(f"{path}: DATE: {error}", path=path) from error
    version = values.get("L0VER")
    return L0Account(
        path=path,
        name=name,
        version=version if isinstance(version, int) and 0 < version < 2**31 else 1,
        written=written,
        sub_fits=tuple(Sighting(path=file, origin=origin.name, signature=None, key=name.key) for origin, file in made_of),
        findings={severity: severities[severity] for severity in ("info", "warning", "error")},
        missing={str(row[2]): str(row[0]) for row in findings if row[0] in MISSING_CODES and row[2] not in attached},
    )


def exposure_of(l0: SubFits, instrument: Instrument) -> ExposureName:
    """Return what exposure an L0 is of, as its primary tells.

    Raises
    ------
    InputError
        When it names no sub-FITS of this instrument.
    """
    made_of = _made_of(l0, instrument)
    frame = l0.hdus[0].value("FRAMENO")
    nights = Counter(_night(origin, file) for origin, file in made_of)
    return ExposureName(
        instrument=instrument.name,
        night=nights.most_common(1)[0][0],
        frame=frame if isinstance(frame, int) else None,
        first="" if isinstance(frame, int) else made_of[0][1].rsplit("/", 1)[-1],
    )


def _made_of(l0: SubFits, instrument: Instrument) -> list[tuple[Origin, str]]:
    """Return the attached origins, each with the path of its sub-FITS."""
    if l0.hdus[0].record(HEADERS_ALONE):
        raise InputError(f"{l0.path}: has the headers of an L0 and not its pixels, so it is no L0", path=l0.path)
    values = l0.hdus[0].values()
    made_of = [(o, str(values[o.file_card])) for o in instrument.origins if values.get(o.flag) == "YES" and values.get(o.file_card)]
    if not made_of:
        raise InputError(f"{l0.path}: names no sub-FITS of {instrument.name}", path=l0.path)
    return made_of


def _night(origin: Origin, path: str) -> str:
    """Return the directory that an origin's pattern starts from."""
    return path.rsplit("/", origin.files.count("/") + 1)[0] or "/"
