"""Primaries into one: each card of each sub-FITS primary gets one fate and, if it stays in the primary, one name."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from assembler.core.amplifiers import amplifier_of, collision
from assembler.core.cards import CARD_LENGTH, Kind, Record, date_fault, keyword_of, rename, write_card, write_commentary
from assembler.core.exposure import Hdu
from assembler.core.extensions import Placement, is_primary_structure, placement
from assembler.core.findings import Finding, finding
from assembler.core.instrument import Origin
from assembler.core.prefixes import assign_names, claim, free_keyword

_RULE = "-" * (CARD_LENGTH - 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Primary:
    """A sub-FITS primary that has no data of its own.

    Attributes
    ----------
    origin : Origin
    path : str
        For the findings.
    hdu : Hdu
    extensions : mapping of str to Hdu
        The extensions that this sub-FITS gives, by their names in the L0.
    """

    origin: Origin
    path: str
    hdu: Hdu
    extensions: Mapping[str, Hdu]


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What became of all primaries.

    Attributes
    ----------
    shared : tuple of str
        Cards that all origins agree on.
    sections : tuple of str
        The prefixed cards and the commentary, by origin, each section under a line that names it.
    additions : mapping of str to tuple of str
        By extension, the amplifier cards that go there.
    placements : mapping of str to tuple of Placement
        By origin, where each card of its primary went.
    findings : tuple of Finding
    """

    shared: tuple[str, ...]
    sections: tuple[str, ...]
    additions: Mapping[str, tuple[str, ...]]
    placements: Mapping[str, tuple[Placement, ...]]
    findings: tuple[Finding, ...]


def merge_primaries(primaries: Sequence[Primary], shared: Collection[str], reserved: Collection[str]) -> Merged:
    """Merge the primary headers, in the order given.

    Parameters
    ----------
    primaries : sequence of Primary
    shared : collection of str
        Keywords that are written once, unprefixed, where all origins agree.
    reserved : collection of str
        Names in the L0's primary that are taken.
    """
    records = {p.origin.name: tuple(p.hdu.records()) for p in primaries}
    findings = [f for p in primaries for f in _mended(p, records[p.origin.name])]
    agreed, disagreeing = _agree(primaries, records, shared, reserved)
    findings += disagreeing
    additions, moved, unknown = _move_to_amplifiers(primaries, records)
    findings += unknown
    named: dict[str, dict[int, str]] = {p.origin.name: {} for p in primaries}
    claims, claimed = [], []
    for primary in primaries:
        origin = primary.origin
        name, prefix, renames, elsewhere = origin.name, origin.prefix, origin.renames, moved[origin.name]
        places = named[name]
        for place, _, keyword, _, kind, *_ in records[name]:
            if keyword not in agreed and place not in elsewhere and _wants_name(keyword, kind, renames):
                claims.append(claim((name, prefix, keyword, renames.get(keyword, ""))))
                claimed.append((places, place))
    names, collisions = assign_names(claims, {*reserved, *agreed})
    findings += collisions
    for (of_origin, place), name in zip(claimed, names, strict=True):
        of_origin[place] = name
    sections: list[str] = []
    placements = {}
    for primary in primaries:
        name = primary.origin.name
        cards, placed, dropped = _write_section(primary, records[name], named[name], moved[name], agreed)
        sections += cards
        placements[name] = placed
        findings += dropped
    return Merged(
        shared=tuple(image for cards in agreed.values() for image in cards),
        sections=tuple(sections),
        additions={name: tuple(cards) for name, cards in additions.items()},
        placements=placements,
        findings=tuple(findings),
    )


def _wants_name(keyword: str, kind: Kind, renames: Collection[str]) -> bool:
    if kind == "hierarch":
        return keyword in renames
    return kind == "value" and not is_primary_structure(keyword)


def _agree(
    primaries: Sequence[Primary], records: Mapping[str, tuple[Record, ...]], shared: Collection[str], reserved: Collection[str]
) -> tuple[dict[str, tuple[str, ...]], list[Finding]]:
    """Return the shared cards that all who have them agree on, and who does not."""
    given: dict[str, dict[str, list[Record]]] = {}
    for primary in primaries:
        for record in records[primary.origin.name]:
            if record.keyword in shared and record.kind == "value":
                given.setdefault(record.keyword, {}).setdefault(primary.origin.name, []).append(record)
    agreed: dict[str, tuple[str, ...]] = {}
    findings = []
    for keyword, by_origin in given.items():
        values = {f"{type(r.value).__name__} {r.value!r}" for rs in by_origin.values() for r in rs}
        if keyword in reserved:
            findings.append(finding("shared-name-taken", f"{keyword} belongs to the L0 itself", keyword=keyword))
        elif len(values) > 1 or any(len(rs) > 1 or date_fault(rs[0]) for rs in by_origin.values()):
            told = ", ".join(f"{name} has {rs[0].text.strip()}" for name, rs in by_origin.items())
            findings.append(finding("shared-differs", f"{keyword}: {told}", keyword=keyword))
        else:
            agreed[keyword] = rename(next(iter(by_origin.values()))[0], keyword)
    return agreed, findings


def _move_to_amplifiers(
    primaries: Sequence[Primary], records: Mapping[str, tuple[Record, ...]]
) -> tuple[dict[str, list[str]], dict[str, dict[int, Placement]], list[Finding]]:
    """Return by extension the amplifier cards that go there, and by origin and place where each of them went."""
    additions: dict[str, list[str]] = {}
    moved: dict[str, dict[int, Placement]] = {p.origin.name: {} for p in primaries}
    findings = []
    for primary in primaries:
        origin = primary.origin
        if not origin.amplifier_cards:
            continue
        mode = sum(name in primary.extensions for name in origin.amplifiers)
        taken = {name: {keyword_of(i) for i in primary.extensions[name].images} for name in origin.amplifiers if name in primary.extensions}
        for record in records[origin.name]:
            if record.kind != "value":
                continue
            try:
                target = amplifier_of(record, origin, mode)
            except LookupError as error:
                findings.append(finding("amplifier-unknown", f"{primary.path}: {error}", origin=origin.name, keyword=record.keyword))
                continue
            if target is None or target[0] not in taken:
                continue
            extension, keyword = target
            free = free_keyword(keyword, taken[extension])
            if free != keyword:
                findings.append(collision(record, extension, free, origin.name))
            taken[extension].add(free)
            additions.setdefault(extension, []).extend(rename(record, free))
            moved[origin.name][record.place] = Placement(fate="amplifier", extension=extension, keyword=free)
    return additions, moved, findings


def _write_section(
    primary: Primary,
    records: Sequence[Record],
    named: Mapping[int, str],
    moved: Mapping[int, Placement],
    agreed: Collection[str],
) -> tuple[list[str], tuple[Placement, ...], list[Finding]]:
    """Write the prefixed cards and the commentary of one origin, in the order that they had."""
    origin = primary.origin
    cards = [*write_commentary("COMMENT", _RULE), *write_commentary("COMMENT", f"Cards of the primary header of {origin.name}")]
    placements: list[Placement] = []
    findings = []
    tail = f"Kwd {origin.name} "
    for record in records:
        place, images, keyword, original, kind, text, comment, *_ = record
        if name := named.get(place):
            cards += write_card(name, text, comment, tail + (original if kind == "value" else keyword))
            placed = placement(("prefixed", "PRIMARY", name))
        elif place in moved:
            placed = moved[place]
        elif kind == "value" and keyword in agreed:
            placed = Placement(fate="shared", extension="PRIMARY", keyword=keyword)
        elif kind == "value":
            placed = Placement(fate="structure")
        elif kind == "hierarch":
            told = f"{primary.path}: {keyword} has no short name under renames in the YAML"
            findings.append(finding("hierarch-dropped", told, origin=origin.name, keyword="HIERARCH"))
            placed = Placement(fate="dropped")
        elif not text.strip() and not keyword:
            placed = Placement(fate="dropped")
        else:
            cards += write_commentary(keyword, text)
            placed = Placement(fate="kept", extension="PRIMARY", keyword=keyword)
        placements += [placed] * len(images)
    return cards, tuple(placements), findings


def _mended(primary: Primary, records: Sequence[Record]) -> list[Finding]:
    return [
        finding(
            "card-mended",
            f"{primary.path}, HDU 0, card {r.place + 1}: {r.fault}: {r.images[0].rstrip()!a}",
            origin=primary.origin.name,
            keyword=r.original,
        )
        for r in records
        if r.fault
    ]
