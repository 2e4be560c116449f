"""The L0's own cards of the primary: who assembled what, how the file is called, what the prefixes mean."""

from collections.abc import Sequence

from assembler.core.cards import text_of, write_card, write_commentary
from assembler.core.exposure import Exposure
from assembler.core.instants import SECOND, format_iso, round_to
from assembler.core.instrument import Instrument, Origin
from assembler.core.times import Times, service_cards
from assembler.core.versions import Replaced, version_cards

HEADERS_ALONE = "HDRONLY"
"""Keyword that stands in no L0: whatever has it, has the headers of one and no pixels."""

# fmt: off
OWN_KEYWORDS = frozenset({
    "SIMPLE", "BITPIX", "NAXIS", "EXTEND", "FAVER", "YAMLSHA", "DATE", "TIMESYS", "L0VER", "CAMERAS", "DATE-BEG",
    "DATE-MID", "DATE-AVG", "DATE-END", "MJD-BEG", "MJD-AVG", "MJD-END", "OUTDIR", "OFNAME", "FRAMENO",
    "CHECKSUM", "DATASUM", "EXTNAME", "EXTVER", "EXTLEVEL", "INHERIT", "COMMENT", "HISTORY", "CONTINUE",
    "HIERARCH", "END", "XTENSION", "BSCALE", "BZERO", "BLANK", "PCOUNT", "GCOUNT", "GROUPS", "TFIELDS",
    "LONGSTRN", HEADERS_ALONE,
})
# fmt: on
"""Keywords that no other card of the primary may have."""

_RULE = "-" * 72


def reserved_names(instrument: Instrument, *, telemetry: bool = True) -> frozenset[str]:
    """Return the keywords of the primary that belong to the L0 itself and, unless told otherwise, to its telemetry."""
    own = {*OWN_KEYWORDS, *(k for o in instrument.origins for k in (o.flag, o.file_card))}
    service = {s.card for s in (instrument.exposure.begin, instrument.exposure.end) if s}
    cards = {k.card for s in instrument.snapshots for k in s.keywords} if telemetry else set()
    return frozenset(own | service | cards)


def structure_cards() -> tuple[str, ...]:
    """Write the cards that a primary without data begins with."""
    return (
        *write_card("SIMPLE", text_of(True), "conforms to FITS standard"),
        *write_card("BITPIX", text_of(8), "array data type"),
        *write_card("NAXIS", text_of(0), "number of array dimensions"),
        *write_card("EXTEND", text_of(True), "there are extensions"),
    )


def assembly_cards(
    instrument: Instrument, exposure: Exposure, times: Times, version: str, written: int, replaces: Replaced | None
) -> list[str]:
    """Write who assembled what, which version it is, and which origins are attached."""
    attached = {origin.name for origin, _ in exposure.attached}
    cards = [
        *write_card("FAVER", text_of(version), "version of the L0 assembler"),
        *(write_card("YAMLSHA", text_of(instrument.digest)) if instrument.digest else ()),
        *write_card("DATE", text_of(format_iso(round_to(written, SECOND // 1000), digits=3)), "when this file was written (UTC)"),
        *write_card("TIMESYS", text_of("UTC"), "time scale of the times in this header"),
        *version_cards(replaces),
        *write_card("CAMERAS", text_of(len(instrument.origins)), "origins that were asked for"),
    ]
    for origin in instrument.origins:
        there = "YES" if origin.name in attached else "NO"
        cards += write_card(origin.flag, text_of(there), f"are the HDUs of {origin.name} in this file?")
    return [*cards, *service_cards(instrument.exposure, times)]


def identity_cards(instrument: Instrument, exposure: Exposure, directory: str, filename: str) -> list[str]:
    """Write what this file is called, and which files it was made of."""
    paths = {origin.name: sub.path for origin, sub in exposure.attached}
    cards = [
        *write_commentary("COMMENT", _RULE),
        *write_card("OUTDIR", text_of(directory), "directory that this file was written to"),
        *write_card("OFNAME", text_of(filename), "name of this file"),
    ]
    for origin in instrument.origins:
        told = text_of(paths[origin.name]) if origin.name in paths else ""
        cards += write_card(origin.file_card, told, f"sub-FITS of {origin.name}" if told else f"no sub-FITS of {origin.name}")
    if exposure.frame is not None:
        cards += write_card("FRAMENO", text_of(exposure.frame), "frame number")
    return cards


def legend_cards(origins: Sequence[Origin]) -> list[str]:
    """Write what the prefixes mean, of the origins that have prefixed cards."""
    cards = [*write_commentary("COMMENT", _RULE)]
    cards += write_commentary("COMMENT", "Prefixes of the keywords above, and where their cards were:")
    for origin in origins:
        cards += write_commentary("COMMENT", f"{origin.prefix}  primary header of the sub-FITS of {origin.name}")
    cards += write_commentary("COMMENT", "After Kwd, a comment tells the origin and the original keyword.")
    cards += write_commentary("COMMENT", "CARDS tells where every input card is, FINDINGS what did not fit.")
    return cards
