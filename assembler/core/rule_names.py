"""Rules about the name of an L0: the template that it fits, and the keywords that tell the same."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from assembler.core.cards import Value
from assembler.core.exposure import Exposure
from assembler.core.instants import DAY, SECOND, format_iso, parse_iso
from assembler.core.plan import l0_name
from assembler.core.rule_values import is_of_kind, is_undefined, value_told

AROUND_MIDNIGHT = 2 * SECOND
"""How close to midnight a date that was broadcast may still be, or already be, that of the other day [ns]."""

_FIELDS = {"date": r"(?P<date>\d{8})", "seconds": r"(?P<seconds>\d{5}\.\d\d)", "frame": r"(?P<frame>\d{1,18})", "stem": "[A-Za-z0-9_-]+"}
_NOBODY = Exposure(frame=None, attached=(), missing=())


@dataclass(frozen=True, slots=True, kw_only=True)
class NameRules:
    """What is asked of the file's name; each is empty where it is not asked.

    Attributes
    ----------
    template : str
        As `assembler.core.plan.l0_name` takes it.
    keyword : str
        The keyword that has the name.
    begin : str
        The keyword whose date and time give {date} and {seconds}.
    date : str
        A keyword with a date only, which is that of the name where the L0 has it.
    frame : str
        The keyword that gives {frame}.
    """

    template: str = ""
    keyword: str = ""
    begin: str = ""
    date: str = ""
    frame: str = ""


def name_faults(rules: NameRules, primary: Mapping[str, Value], filename: str) -> Iterator[tuple[str, str, str]]:
    """Yield each rule about the name that an L0 breaks, the keyword that it is about, and what is wrong.

    Parameters
    ----------
    rules : NameRules
    primary : mapping of str to Value
        The values of the primary by keyword.
    filename : str
        Without directory. One that does not fit the template is compared with no keyword but that of the name.

    >>> rules = NameRules(template="KP.{date}.{seconds}.fits", begin="DATE-BEG")
    >>> [told[0] for told in name_faults(rules, {"DATE-BEG": "2024-04-22T23:59:59.997"}, "KP.20240422.86399.99.fits")]
    ['name DATE-BEG']
    >>> list(name_faults(rules, {"DATE-BEG": "2024-04-22T23:59:59.997"}, "KP.20240423.00000.00.fits"))
    []
    """
    fields = _fields(rules.template, filename) if rules.template else None
    if rules.template and fields is None:
        yield "name template", "", f"the file is named {filename}, expected {rules.template}"
    if rules.keyword and (told := _other_name(primary, rules.keyword, filename)):
        yield f"name {rules.keyword}", rules.keyword, told
    if rules.begin and (told := _other_begin(primary, rules.begin, fields or {})):
        yield f"name {rules.begin}", rules.begin, told
    if rules.date and (told := _other_date(primary, rules.date, fields or {})):
        yield f"name {rules.date}", rules.date, told
    if rules.frame and (told := _other_frame(primary, rules.frame, fields or {})):
        yield f"name {rules.frame}", rules.frame, told


def _other_name(primary: Mapping[str, Value], keyword: str, filename: str) -> str:
    value = primary.get(keyword)
    return "" if value == filename else f"the file is named {filename}, {keyword} is {value_told(value)}"


def _other_begin(primary: Mapping[str, Value], keyword: str, fields: Mapping[str, str]) -> str:
    value = primary.get(keyword)
    try:
        begin = parse_iso(value) if isinstance(value, str) else None
    except ValueError:
        begin = None
    if begin is None:
        return f"{keyword} is {value_told(value)}, no time to compare the name with"
    for field in ("date", "seconds"):
        expected = l0_name(f"{{{field}}}", begin, _NOBODY)
        if fields.get(field, expected) != expected:
            return f"{keyword} is {value_told(value)}, whose {field} in a name is {expected}; that of the file is {fields[field]}"
    return ""


def _other_date(primary: Mapping[str, Value], keyword: str, fields: Mapping[str, str]) -> str:
    value = primary.get(keyword)
    if is_undefined(value):
        return ""
    found = re.match(r"(\d{4}-\d\d-\d\d)(?=T|$)", value, re.ASCII) if isinstance(value, str) else None
    if not found:
        return f"{keyword} is {value_told(value)}, no date to compare the name with"
    if "date" not in fields or found[1] in _dates(fields):
        return ""
    return f"{keyword} is {value_told(value)}, the date of the file's name is {fields['date']}"


def _other_frame(primary: Mapping[str, Value], keyword: str, fields: Mapping[str, str]) -> str:
    value = primary.get(keyword)
    if "frame" not in fields or (is_of_kind("integer", value) and value == int(fields["frame"])):
        return ""
    return f"{keyword} is {value_told(value)}, the frame of the file's name is {fields['frame']}"


def _fields(template: str, filename: str) -> dict[str, str] | None:
    """Return what a file's name has in the fields of a template; None when it does not fit."""
    parts = re.split(r"\{(\w+)\}", template)
    pattern = "".join(_FIELDS[part] if index % 2 else re.escape(part) for index, part in enumerate(parts))
    found = re.fullmatch(pattern, filename, re.ASCII)
    return found.groupdict() if found else None


def _dates(fields: Mapping[str, str]) -> set[str]:
    """Return the days that a date may tell beside a name: its own, and the one that is less than a moment away."""
    date = f"{fields['date'][:4]}-{fields['date'][4:6]}-{fields['date'][6:]}"
    whole, _, part = fields.get("seconds", "43200.00").partition(".")
    try:
        instant = parse_iso(f"{date}T00:00:00") + int(whole) * SECOND + int(part) * (SECOND // 100)
    except ValueError:  # such a day there is not, which the begin's rule tells
        return {date}
    return {date, *(format_iso(i - i % DAY)[:10] for i in (instant - AROUND_MIDNIGHT, instant + AROUND_MIDNIGHT))}
