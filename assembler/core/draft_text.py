"""The first draft of an instrument as the text of its YAML, with comments; what a header says is quoted where YAML would misread it."""

import re
from collections.abc import Iterable, Iterator, Mapping
from textwrap import wrap

from assembler.core.draft import Draft
from assembler.core.instants import SECOND, UNITS
from assembler.core.instrument import AmplifierCard, Instrument, Origin, OriginTimes

_WIDTH = 120
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
_UNIT_NAMES = {length: name for name, length in UNITS.items()}


def write_draft(draft: Draft) -> str:
    """Return the text of the YAML that says what a draft says.

    Every text in it is printable ASCII, whatever the headers have.
    """
    instrument = draft.instrument
    lines = [
        *_comment(
            "A first draft by assembler init, from one exposure. Look through it: what one exposure has may be otherwise in the next. "
            "docs/instrument-yaml.md tells what else there is: telemetry, the exposure service, tolerances.",
        ),
        "#",
        *(f"#     {scalar(name)}: {scalar(_printable(file))}" for name, file in draft.samples),
        "",
        f"instrument: {scalar(instrument.name)}",
        *_comment(_about_filename(instrument)),
        f"filename: {scalar(instrument.filename)}",
        *_comment("Where the L0s of a night go, below its directory: not among its sub-FITS, where a pattern may take them for some."),
        f"output: {scalar(instrument.output)}",
        "",
        *_shared(draft.alike),
    ]
    if len(instrument.origins) > 1:
        lines += ["# Whose begin and end count, most trusted first.", "exposure:"]
        lines += [*_sequence("  trust", instrument.exposure.trust), ""]
    told = (
        "In the order of the L0. prefix begins the keywords of an origin's primary, flag is the card that is YES when it is in the L0, "
        "file the card for the path of its sub-FITS; files is where these are, below the directory of a night."
    )
    lines += [*_comment(told), "origins:"]
    alone = [o.match for o in instrument.origins].count("frame") == 1
    for origin, differing, instants in zip(instrument.origins, draft.differing, draft.instants, strict=True):
        lines += [f"  {line}".rstrip() for line in _origin(origin, differing, instants, alone=alone)]
    return "\n".join(lines) + "\n"


def scalar(value: str | int) -> str:
    r"""Return a value as YAML reads it back: plain where that is a word, or else in quotes.

    >>> scalar("SCI"), scalar("SCI,1"), scalar("no"), scalar('a "b\\c'), scalar(3)
    ('SCI', '"SCI,1"', '"no"', '"a \\"b\\\\c"', '3')
    """
    if isinstance(value, int):
        return str(value)
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _about_filename(instrument: Instrument) -> str:
    if "{stem}" in instrument.filename:
        return "No card that tells a time was found; {stem} is the name of the first sub-FITS up to its first dot."
    if "{frame}" in instrument.filename:
        return "No card that tells a time was found; {frame} is the frame number, there is {stem}, too."
    return "{date} and {seconds} are those of DATE-BEG; there are {frame} and {stem}, too."


def _shared(keywords: Iterable[str]) -> list[str]:
    listed = wrap(", ".join(keywords), width=_WIDTH - 10, break_long_words=False, break_on_hyphens=False)
    if not listed:
        return []
    told = "The same in all primaries. Those that are so in every exposure may be shared: written once, without a prefix."
    if len(listed) == 1:
        return [*_comment(told), f"# shared: [{listed[0]}]", ""]
    return [*_comment(told), "# shared: [", *(f"#   {line}" for line in listed), "# ]", ""]


def _origin(origin: Origin, differing: Iterable[str], instants: Iterable[str], *, alone: bool) -> Iterator[str]:
    yield f"{scalar(origin.name)}:"
    yield f"  prefix: {scalar(origin.prefix)}"
    yield f"  flag: {scalar(origin.flag)}"
    yield f"  file: {scalar(origin.file_card)}"
    yield from _files(origin, alone=alone)
    if origin.frame:
        yield f"  frame: {scalar(origin.frame)}"
    if origin.extensions:
        yield from _mapping("  extensions", {e.name: e.hdu for e in origin.extensions})
    yield from _listed("These differ from extension to extension, as cards of amplifiers do; they stay there:", differing)
    if origin.amplifiers:
        yield "  amplifiers:  # numbered alike, and as many as there are; is the lowest number the first amplifier?"
        yield from _sequence("    extensions", origin.amplifiers)
        yield "    cards:"
        for rule in origin.amplifier_cards:
            yield from _amplifier_cards(rule)
    yield from _times(origin.times, instants)
    if origin.renames:
        yield "  renames:  # keywords that the rule would cut to one name or to one that is taken, and HIERARCH cards"
        yield from (f"    {scalar(keyword)}: {scalar(name)}" for keyword, name in origin.renames.items())


def _amplifier_cards(rule: AmplifierCard) -> Iterator[str]:
    yield f"      {scalar(rule.pattern)}:"
    yield f"        name: {scalar(rule.name)}"
    yield "        modes:"
    for mode, numbers in rule.modes.items():
        yield from _mapping(f"          {mode}", numbers)


def _files(origin: Origin, *, alone: bool) -> Iterator[str]:
    yield f"  files: {scalar(origin.files)}"
    if origin.match != "frame":
        yield "  match: time  # it counts its own frames, or none"
    elif "{frame}" in origin.files and not origin.frame:
        yield "  # No card tells the number that is in its name; is it the frame number?"
    elif not origin.frame and not alone:
        yield "  # Nothing tells of which exposure a file is: give all to assemble. A night needs {frame} in files, or a frame keyword."
    elif not origin.frame:
        yield "  # Nothing tells its frame number, so that each file of a night is an exposure."
    if re.search(r"[0-9]{6}.*/", origin.files):
        yield "  # A directory has no * and no {frame}: one that is called by a date or a number fits this exposure alone."
    if not re.search(r"\*|\{frame\}", origin.files):
        yield "  # Only the sample is called like that: write * for what is otherwise in the next exposure."


def _times(times: OriginTimes, instants: Iterable[str]) -> Iterator[str]:
    if not times.begin:
        yield "  # No card that tells its begin was found; times: {begin: KEYWORD, end: KEYWORD} says which."
        yield from _listed("These look like times:", instants)
        return
    told: dict[str, str | int] = {"begin": times.begin}
    if times.end:
        told["end"] = times.end
    if times.elapsed:
        told |= {"elapsed": times.elapsed, "unit": _UNIT_NAMES.get(times.elapsed_unit, _UNIT_NAMES[SECOND])}
    if times.form != "iso":
        told["form"] = times.form
    yield from _mapping("  times", told)


def _mapping(key: str, pairs: Mapping[str, str | int]) -> Iterator[str]:
    """Write a mapping in one line where it goes, or else in one for each."""
    told = [f"{scalar(name)}: {scalar(value)}" for name, value in pairs.items()]
    line = f"{key}: {{{', '.join(told)}}}"
    indent = " " * (len(key) - len(key.lstrip()) + 2)
    yield from [line] if len(line) <= _WIDTH else [f"{key}:", *(indent + each for each in told)]


def _sequence(key: str, values: Iterable[str]) -> Iterator[str]:
    told = [scalar(value) for value in values]
    line = f"{key}: [{', '.join(told)}]"
    indent = " " * (len(key) - len(key.lstrip()) + 2)
    yield from [line] if len(line) <= _WIDTH else [f"{key}:", *(f"{indent}- {each}" for each in told)]


def _listed(told: str, keywords: Iterable[str]) -> Iterator[str]:
    """Write keywords in a comment of an origin, unless there are none."""
    listed = ", ".join(keywords)
    if listed:
        lines = wrap(f"{told} {listed}", width=_WIDTH - 6, break_long_words=False, break_on_hyphens=False)
        yield from (f"  # {line}" for line in lines)


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in wrap(text, width=_WIDTH - 2)]


def _printable(text: str) -> str:
    return re.sub(r"[^ -~]", "?", text)
