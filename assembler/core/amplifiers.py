"""Cards to the extension of their amplifier: which amplifier a numbered card of a primary belongs to."""

import re

from assembler.core.cards import Record
from assembler.core.findings import Finding, finding
from assembler.core.instrument import AmplifierCard, Origin


def amplifier_of(record: Record, origin: Origin, mode: int) -> tuple[str, str] | None:
    """Return the extension and the keyword there of an amplifier card, or None when it is none.

    Parameters
    ----------
    record : Record
        A value card of the origin's primary.
    origin : Origin
    mode : int
        The read mode: the number of amplifier HDUs.

    Raises
    ------
    LookupError
        When it is an amplifier card of no amplifier of this mode.
    """
    for rule in origin.amplifier_cards:
        number = _number(rule, record.keyword)
        if number is None:
            continue
        amplifier = rule.modes.get(mode, {}).get(number)
        if amplifier is None:
            raise LookupError(f"{record.keyword}: with {mode} amplifiers the YAML gives number {number} to none of them")
        return origin.amplifiers[amplifier - 1], _insert(rule.name, number)
    return None


def collision(record: Record, extension: str, free: str, origin: str) -> Finding:
    """Say that an amplifier card found its keyword taken in the extension."""
    message = f"{record.keyword} of {origin} is {free} in {extension}, which has a card of that name already"
    return finding("name-collision", message, origin=origin, keyword=free)


def _number(rule: AmplifierCard, keyword: str) -> str | None:
    found = re.fullmatch(re.sub("#+", lambda m: rf"(\d{{{len(m.group())}}})", re.escape(rule.pattern).replace(r"\#", "#")), keyword)
    return found.group(1) if found else None


def _insert(name: str, number: str) -> str:
    return re.sub("#+", number, name)
