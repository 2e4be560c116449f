"""Where in an archive an L0 goes: folders and a name. They are made of what its header says, which is data, and are checked as such."""

import re
from dataclasses import dataclass

from assembler.core.instants import SECOND, format_iso, round_to

TEMPLATE = "{date}/{name}"
"""Where L0s go when nobody says otherwise."""

LONGEST_PART = 220
"""Characters of a part; with what is put before and after the name of a temporary file, no file system minds."""

_LONGEST_NAME = 200
"""Characters of the name of an L0; there is room for what the names of its receipt and of a compressed copy have more."""

_PART = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9._+-]*")
_FIELD = re.compile(r"\{([^{}]*)\}")
_FIELDS = ("name", "date", "year", "month", "day", "version")
_MOST_PARTS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A name in a folder of an archive; every part of it is safe to use.

    Raises
    ------
    ValueError
        When a part is not.
    """

    folder: tuple[str, ...] = ()
    name: str

    def __post_init__(self) -> None:
        if len(self.folder) > _MOST_PARTS:
            raise ValueError(f"more than {_MOST_PARTS} folders in one another")
        for part in (*self.folder, self.name):
            check_part(part)

    def beside(self, name: str) -> "Place":
        """Return another name in the same folder."""
        return Place(folder=self.folder, name=name)

    def __str__(self) -> str:
        return "/".join((*self.folder, self.name))


def check_part(part: str) -> None:
    """Check the name of a folder or a file: letters, digits, `.`, `_`, `+` and `-`, and not hidden.

    Raises
    ------
    ValueError
        When it is none.

    >>> check_part("KP.20240422.28832.89.fits")
    >>> check_part("..")
    Traceback (most recent call last):
    ValueError: '..' is no name for an archive; expected letters, digits, . _ + - and no . at the begin
    """
    if not _PART.fullmatch(part):
        shown = ascii(part[:80])
        raise ValueError(f"{shown} is no name for an archive; expected letters, digits, . _ + - and no . at the begin")
    if len(part) > LONGEST_PART:
        raise ValueError(f"{part[:40]}... has {len(part)} characters; a name in an archive has at most {LONGEST_PART}")


def check_template(template: str) -> str:
    """Return a template when it is one: folders, each a name with or without fields in braces, and ``{name}`` at the end.

    Raises
    ------
    ValueError
        That says what is wrong.

    >>> check_template("{year}/{month}/{name}")
    '{year}/{month}/{name}'
    >>> check_template("{date}")
    Traceback (most recent call last):
    ValueError: the template '{date}' does not end in /{name}
    """
    unknown = [field for field in _FIELD.findall(template) if field not in _FIELDS]
    if unknown:
        known = ", ".join(f"{{{field}}}" for field in _FIELDS)
        raise ValueError(f"the template {template!a} has {{{ascii(unknown[0])[1:-1]}}}; expected {known}")
    *folders, last = template.split("/")
    if last != "{name}":
        raise ValueError(f"the template {template!a} does not end in /{{name}}")
    if "{name}" in "".join(folders):
        raise ValueError(f"the template {template!a} has {{name}} in a folder")
    try:
        Place(folder=tuple(_FIELD.sub("0", folder) for folder in folders), name="0")
    except ValueError as error:
        raise ValueError(f"the template {template!a}: {error}") from None
    return template


def place_of(template: str, name: str, begin: int | None, version: int | None) -> Place:
    """Return where an L0 goes.

    Parameters
    ----------
    template : str
        As `check_template` returns it.
    name : str
        The L0's.
    begin : int or None
        DATE-BEG [ns]; its date is that of the time rounded to 0.01 s, as in the names of L0s.
    version : int or None
        L0VER.

    Raises
    ------
    ValueError
        When the template asks for what the L0 does not tell, or a part is no name for an archive.

    >>> str(place_of("{date}/v{version}/{name}", "a.fits", 86_400 * SECOND - 3_000_000, 2))
    '19700102/v2/a.fits'
    """
    fields = {"name": name}
    if begin is not None:
        fields["year"], fields["month"], fields["day"] = format_iso(round_to(begin, SECOND // 100))[:10].split("-")
        fields["date"] = fields["year"] + fields["month"] + fields["day"]
    if version is not None:
        fields["version"] = str(version)
    for wanted in _FIELD.findall(template):
        if wanted not in fields:
            raise ValueError(f"its place is {template}, and it has no {'L0VER' if wanted == 'version' else 'DATE-BEG that is a time'}")
    if len(name) > _LONGEST_NAME:
        raise ValueError(f"{name[:40]!a}... has {len(name)} characters; the name of an L0 in an archive has at most {_LONGEST_NAME}")
    *folders, last = [_FIELD.sub(lambda found: fields[found.group(1)], part) for part in template.split("/")]
    return Place(folder=tuple(folders), name=last)
