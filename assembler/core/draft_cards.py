"""What the headers of samples tell of an instrument: extensions, amplifier cards, times, frame numbers, names that collide."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

from assembler.core.amplifiers import amplifier_of
from assembler.core.candidates import read_instant
from assembler.core.cards import Record, date_fault
from assembler.core.draft_files import SampleFile
from assembler.core.draft_names import extension_base, free_name
from assembler.core.exposure import Hdu, SubFits
from assembler.core.extensions import is_primary_structure, is_structure, tells_how_data_are_stored
from assembler.core.instants import UNITS
from assembler.core.instrument import AmplifierCard, Extension, Instrument, Origin, OriginTimes, TimeForm
from assembler.core.plan import OWN_TABLES
from assembler.core.prefixes import KEPT, free_keyword, rule_name
from assembler.core.primary import OWN_KEYWORDS, reserved_names

_TIMES: tuple[tuple[str, TimeForm, tuple[str, ...]], ...] = (
    ("DATE-BEG", "iso", ("DATE-END",)),
    ("DATE-OBS", "iso", ("DATE-END",)),
    ("DATE_BEG", "iso", ("DATE_END",)),
    ("MJD-BEG", "mjd", ("MJD-END",)),
    ("TEXPSTRT", "mjd", ("TEXPEND",)),
    ("EXPSTART", "mjd", ("EXPEND",)),
    ("MJD-OBS", "mjd", ("MJD-END",)),
)
_LENGTHS = ("ELAPSED", "TELAPSE", "EXPTIME", "XPOSURE", "EXPOSURE", "ITIME", "TEXPTIME")
_FRAMES = ("FRAMENO", "FRAMENUM", "FRAME", "EXPNUM", "OBSNUM", "SEQNUM", "IMGNUM", "RUN")
_SECTION = re.compile(r"\[\d+:\d+,\d+:\d+\]")
_OF_AMPLIFIERS = re.compile(r"GAIN|OFFSET|RDNOI|RONOI|READN|RON|SATUR|BIAS|AMP|CHAN")
_LONGEST_NAME = 71


def frame_cards(sub: SubFits) -> tuple[tuple[str, int], ...]:
    """Return the cards that may tell the frame number, and what each tells."""
    told = []
    for keyword in _FRAMES:
        value = sub.hdus[0].value(keyword)
        number = int(value) if isinstance(value, str) and re.fullmatch(r" *[0-9]{1,18} *", value) else value
        if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 10**18:
            told.append((keyword, number))
    return tuple(told)


def origin_extensions(samples: Sequence[SampleFile], names: Sequence[str]) -> tuple[tuple[Extension, ...], ...]:
    """Return the extensions of each sample: an HDU by its EXTNAME where it has one of its own, or else by its number."""
    wanted = []
    for sample, name in zip(samples, names, strict=True):
        carrying = [h for h in sample.sub.hdus if h.index or h.length]
        often = Counter(h.extname for h in carrying)
        wanted.append([(*_selected(h, carrying, often), name) for h in carrying])
    shared = Counter(base for own in wanted for base in dict.fromkeys(b for _, b, _ in own))
    taken = {"PRIMARY", *OWN_TABLES}
    result = []
    for own in wanted:
        chosen = []
        for selector, base, name in own:
            clashes = not base or base.isdecimal() or base in ("PRIMARY", *OWN_TABLES) or shared[base] > 1
            full = extension_base(f"{name}_{base}" if base else name) if clashes else base
            free = free_name(full, taken)
            taken.add(free)
            chosen.append(Extension(name=free, hdu=selector))
        result.append(tuple(chosen))
    return tuple(result)


def origin_times(sub: SubFits) -> OriginTimes:
    """Return where a sample tells its begin and end; nothing is taken that cannot be read as a time."""
    hdu = sub.hdus[0]
    elapsed, unit = next(((k, u) for k in _LENGTHS if (u := _unit(hdu, k))), ("", UNITS["s"]))
    for begin, form, ends in _TIMES:
        started = _instant(hdu, begin, form)
        if started is None:
            continue
        end = next((e for e in ends if (ended := _instant(hdu, e, form)) is not None and ended >= started), "")
        lasts = "" if end else elapsed
        return OriginTimes(begin=begin, end=end, elapsed=lasts, form=form, elapsed_unit=unit if lasts else UNITS["s"], tolerance=0)
    return OriginTimes(begin="", end="", elapsed="", form="iso", elapsed_unit=UNITS["s"], tolerance=0)


def instant_cards(sub: SubFits) -> tuple[str, ...]:
    """Return the keywords of a primary whose values look like instants, other than DATE, which is when a file was written."""
    hdu = sub.hdus[0]
    found = []
    for record in hdu.records():
        form: TimeForm = "iso" if isinstance(record.value, str) else "mjd" if "MJD" in record.keyword else "jd"
        named = form == "iso" or re.match("(?:[A-Z]*-?)?M?JD", record.keyword)
        if named and record.keyword != "DATE" and _instant(hdu, record.keyword, form) is not None:
            found.append(record.keyword)
    return tuple(dict.fromkeys(found))


def amplifier_rules(sub: SubFits, extensions: Sequence[Extension]) -> tuple[tuple[str, ...], tuple[AmplifierCard, ...]]:
    """Return the amplifiers of a sample and the cards that look like theirs: as many, numbered alike, as there are amplifiers.

    Of cards in a row, ``GAIN02`` and ``GAIN03``, the first is taken for that of the first amplifier.
    """
    amplifiers = _amplifiers(sub, extensions)
    if sub.hdus[0].length or len(amplifiers) < 2:
        return (), ()
    families: dict[str, dict[str, Record]] = {}
    often = Counter(r.keyword for r in sub.hdus[0].records())
    for record in sub.hdus[0].records():
        found = re.fullmatch(r"([A-Z0-9_-]*[A-Z_-])([0-9]+)()|([A-Z_-]+)([0-9]+)([A-Z_-]+)", record.keyword)
        if found and record.kind == "value" and often[record.keyword] == 1 and not is_primary_structure(record.keyword):
            before, number, after = found.groups()[:3] if found.group(2) else found.groups()[3:]
            families.setdefault(before + "#" * len(number) + after, {})[number] = record
    taken = {r.keyword for _, h in amplifiers for r in h.records()}
    rules = []
    for pattern, cards in families.items():
        numbers = sorted(cards, key=int)
        in_a_row = [int(n) for n in numbers] == list(range(int(numbers[0]), int(numbers[0]) + len(amplifiers)))
        if not in_a_row or not (_OF_AMPLIFIERS.match(pattern) or all(_is_section(r) for r in cards.values())):
            continue
        stem = pattern.replace("#", "")
        free = [] if is_structure(stem) or stem in OWN_KEYWORDS or stem in taken else [(stem, {stem})]
        free += [(pattern, {re.sub("#+", n, pattern) for n in numbers})]
        ways = free if all(_is_section(r) for r in cards.values()) else free[::-1]
        way = next((w for w in ways if not w[1] & taken), None)
        if way:
            taken |= way[1]
            numbered = {number: place for place, number in enumerate(numbers, 1)}
            rules.append(AmplifierCard(pattern=pattern, name=way[0], modes={len(amplifiers): numbered}))
    return (tuple(name for name, _ in amplifiers), tuple(rules)) if rules else ((), ())


def differing_cards(sub: SubFits, extensions: Sequence[Extension]) -> tuple[str, ...]:
    """Return the keywords that all amplifiers of a sample have once, in images of one shape, not all with the same value."""
    headers = [[r for r in h.records() if r.kind == "value"] for _, h in _amplifiers(sub, extensions)]
    shapes = {tuple((r.keyword, r.value) for r in header if re.fullmatch("Z?(?:BITPIX|NAXIS[0-9]*)", r.keyword)) for header in headers}
    if len(headers) < 2 or len(shapes) > 1:
        return ()
    often = [Counter(r.keyword for r in header) for header in headers]
    values: dict[str, set[str]] = {}
    for record in (r for header in headers for r in header):
        values.setdefault(record.keyword, set()).add(repr(record.value))
    return tuple(
        keyword
        for keyword, told in values.items()
        if len(told) > 1
        and keyword not in OWN_KEYWORDS
        and not tells_how_data_are_stored(keyword)
        and all(counts[keyword] == 1 for counts in often)
    )


def alike(subs: Sequence[SubFits], reserved: Collection[str]) -> tuple[str, ...]:
    """Return the keywords that all primaries without data have once, with one value."""
    headers = [[r for r in s.hdus[0].records() if r.kind == "value"] for s in subs if not s.hdus[0].length]
    if len(headers) < 2:
        return ()
    often = [Counter(r.keyword for r in header) for header in headers]
    told = [{(r.keyword, repr(r.value)) for r in header} for header in headers]
    return tuple(
        r.keyword
        for r in headers[0]
        if all((r.keyword, repr(r.value)) in values for values in told)
        and all(counts[r.keyword] == 1 for counts in often)
        and r.keyword not in reserved
        and not is_primary_structure(r.keyword)
        and not date_fault(r)
    )


def settle_names(instrument: Instrument, subs: Sequence[SubFits]) -> tuple[Mapping[str, str], ...]:
    """Return the renames of each origin: of cards that the prefix rule would give one name, and of HIERARCH cards."""
    reserved = reserved_names(instrument)
    wanting = [_wanting(origin, sub) for origin, sub in zip(instrument.origins, subs, strict=True)]
    cards = [
        (o, keyword, rule_name(o.prefix, keyword))
        for o, keywords in zip(instrument.origins, wanting, strict=True)
        for keyword in keywords
        if not keyword.startswith("HIERARCH ")
    ]
    owners = Counter(wanted for _, _, wanted in cards)
    whole = {wanted for _, keyword, wanted in cards if len(keyword) <= KEPT}
    taken = {*reserved, *owners}
    renames: list[dict[str, str]] = []
    for origin, keywords in zip(instrument.origins, wanting, strict=True):
        own: dict[str, str] = {}
        for keyword in keywords:
            wanted = rule_name(origin.prefix, keyword)
            keeps = not _belongs_to_l0(wanted, reserved) and (owners[wanted] == 1 or (len(keyword) <= KEPT and wanted in whole))
            if not keyword.startswith("HIERARCH ") and (keeps or not keyword):
                continue
            names = list(_shortened(origin.prefix, keyword))
            free = next((n for n in names if n not in taken and not is_structure(n)), None) or free_keyword(names[0], taken)
            if re.fullmatch(rf"[ -~]{{1,{_LONGEST_NAME}}}", keyword) and re.fullmatch(r"[A-Z0-9_-]{1,8}", free):
                own[keyword] = free
                taken.add(free)
        renames.append(own)
    return tuple(renames)


def _belongs_to_l0(name: str, reserved: Collection[str]) -> bool:
    return name in reserved or is_structure(name)


def _wanting(origin: Origin, sub: SubFits) -> list[str]:
    """Return the keywords of a primary, each once, whose cards want a name in the L0's primary."""
    if sub.hdus[0].length:
        return []
    mode = len(origin.amplifiers)
    keywords = []
    for record in sub.hdus[0].records():
        if record.kind == "hierarch" or (record.kind == "value" and not is_primary_structure(record.keyword)):
            try:
                moves = record.kind == "value" and amplifier_of(record, origin, mode) is not None
            except LookupError:
                moves = False
            if not moves:
                keywords.append(record.keyword)
    return list(dict.fromkeys(keywords))


def _shortened(prefix: str, keyword: str) -> Iterator[str]:
    """Yield names that keep the end of a keyword, which tells those apart that begin alike."""
    if keyword.startswith("HIERARCH "):
        words = [re.sub(r"[^A-Z0-9_-]", "", word.upper()) for word in keyword.split()[1:]]
        together = "".join(words)
        yield from (prefix + text[:KEPT] for text in (words[-1] if words else "", "".join(words[-2:]), together) if text)
        keyword = together
    for start in (4, 3, 5, 2, 1):
        yield prefix + keyword[:start] + keyword[max(start, len(keyword) - KEPT + start) :]


def _selected(hdu: Hdu, carrying: Sequence[Hdu], often: Mapping[str, int]) -> tuple[int | str, str]:
    """Return how the YAML names an HDU, and what it might be called in the L0."""
    name = hdu.extname
    if not re.fullmatch(r"[!-+\--~](?:[ -+\--~]{0,66}[!-+\--~])?", name):
        return hdu.index, extension_base(str(hdu.index)) if hdu.index else ""
    if often[name] == 1:
        return name, extension_base(name)
    versions = [_version(h) for h in carrying if h.extname == name]
    version = _version(hdu)
    if version is not None and None not in versions and versions.count(version) == 1:
        return f"{name},{version}", extension_base(f"{name}_{version}")
    return hdu.index, extension_base(f"{name}_{hdu.index}")


def _version(hdu: Hdu) -> int | None:
    record = hdu.record("EXTVER")
    value = 1 if record is None else record.value
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**9 else None


def _amplifiers(sub: SubFits, extensions: Sequence[Extension]) -> list[tuple[str, Hdu]]:
    """Return the extensions that look like amplifiers: the images with data, those with AMP in EXTNAME where some have it."""
    carrying = [h for h in sub.hdus if h.index or h.length]
    images = [(e.name, h) for e, h in zip(extensions, carrying, strict=True) if h.length and _is_image(h)]
    return [(e, h) for e, h in images if "AMP" in h.extname.upper()] or images


def _is_image(hdu: Hdu) -> bool:
    return hdu.index == 0 or str(hdu.value("XTENSION") or "").strip() == "IMAGE" or hdu.value("ZIMAGE") is True


def _is_section(record: Record) -> bool:
    return isinstance(record.value, str) and bool(_SECTION.fullmatch(record.value.replace(" ", "")))


def _instant(hdu: Hdu, keyword: str, form: TimeForm) -> int | None:
    record = hdu.record(keyword)
    if record is None or record.kind != "value" or record.value is None or isinstance(record.value, bool):
        return None
    text = record.value if isinstance(record.value, str) else record.text.strip().replace("D", "E")
    return read_instant(text, form, origin="", keyword=keyword, where="")[0]


def _unit(hdu: Hdu, keyword: str) -> int | None:
    """Return the unit [ns] of a number that tells how long an exposure was, by its comment, or None when it is no such number."""
    record = hdu.record(keyword)
    if record is None or record.kind != "value" or isinstance(record.value, str | bool | complex) or record.value is None:
        return None
    told = re.match(r"\[(s|ms|us|min|h|d)\]", record.comment)
    return UNITS[told.group(1)] if told else UNITS["s"]
