"""What the record of an exposure tells of its origins."""

from collections.abc import Collection, Mapping

from assembler.core.candidates import Scales, elapsed_of, read_candidate
from assembler.core.cards import printable_text
from assembler.core.columns import LARGEST
from assembler.core.exposure import SubFits
from assembler.core.instants import SECOND, format_iso
from assembler.core.instrument import Instrument, Origin
from assembler.core.record import LONGEST, OriginRow


def origin_rows(
    instrument: Instrument, subs: Mapping[str, SubFits], missing: Mapping[str, str], extensions: Collection[str], scales: Scales
) -> tuple[OriginRow, ...]:
    """Return a row for each origin of an instrument, in its order.

    Parameters
    ----------
    instrument : Instrument
    subs : mapping of str to SubFits
        By origin, the sub-FITS that are in the L0.
    missing : mapping of str to str
        By origin, the code of the finding that tells why it is not.
    extensions : collection of str
        Names of the L0's extensions.
    scales : Scales
    """
    return tuple(
        _attached(origin, subs[origin.name], extensions, scales)
        if origin.name in subs
        else OriginRow(origin=origin.name, attached=False, reason=missing.get(origin.name))
        for origin in instrument.origins
    )


def _attached(origin: Origin, sub: SubFits, extensions: Collection[str], scales: Scales) -> OriginRow:
    candidate, _ = read_candidate(origin, sub, scales)
    elapsed = elapsed_of(origin, sub, candidate)
    frame = _frame(origin, sub)
    return OriginRow(
        origin=origin.name,
        attached=True,
        file_name=printable_text(sub.name)[:LONGEST],
        frame=frame if frame is not None and abs(frame) <= LARGEST else None,
        begin_time=format_iso(candidate.begin) if candidate.begin is not None else None,
        end_time=format_iso(candidate.end) if candidate.end is not None else None,
        elapsed=elapsed / SECOND if elapsed is not None else None,
        amplifiers=sum(name in extensions for name in origin.amplifiers) if origin.amplifiers else None,
    )


def _frame(origin: Origin, sub: SubFits) -> int | None:
    """Return the frame number that a sub-FITS tells, be it the exposure's or one of its own count."""
    value = sub.hdus[0].value(origin.frame) if origin.frame else None
    if isinstance(value, str) and value.strip().isdecimal() and len(value) < 40:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
