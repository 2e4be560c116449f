"""What is counted of exposures that were made in batch: as much for ten thousand as for ten."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from assembler.core.findings import CODES
from assembler.core.lines import as_line

if TYPE_CHECKING:
    from assembler.service.night import Result
    from assembler.service.survey import Survey

STATES = ("made", "superseded", "same", "new", "differs", "failed")
SEVERITIES = ("error", "warning", "info")
MOST_GROUPS = 12
MOST_NAMES = 12
"""How many reasons are told, and how many exposures of each are named."""

_OTHER = "other reasons"
_LONGEST = 300


@dataclass(slots=True, kw_only=True)
class Group:
    """Exposures that have the same trouble: how many, the first few by name, what one of them says, and the exit code for it."""

    exit_code: int
    example: str = ""
    count: int = 0
    names: list[str] = field(default_factory=list)

    def add(self, name: str) -> None:
        """Count one more."""
        self.count += 1
        if len(self.names) < MOST_NAMES:
            self.names.append(name)

    def named(self) -> str:
        """Return the names, and how many there are besides."""
        rest = self.count - len(self.names)
        return ", ".join(self.names) + (f" and {rest} more" if rest else "")


class Tally:
    """Counts exposures.

    Parameters
    ----------
    nights : bool
        Whether they are of several nights, so that a name needs that of its night.
    """

    def __init__(self, *, nights: bool = False) -> None:
        self._nights = nights
        self.states: Counter[str] = Counter()
        self.findings: Counter[str] = Counter()
        self.codes: Counter[str] = Counter()
        self.size = self.frames_missing = self.strays = self.undated = self.exit_code = 0
        self.left = self.bad_nights = self.nights_left = 0
        self.failures: dict[str, Group] = {}
        self.errors: dict[str, Group] = {}
        """By reason; and by code, those whose L0 has a finding of severity error."""

    @property
    def exposures(self) -> int:
        """How many there were."""
        return sum(self.states.values())

    def add(self, result: "Result") -> None:
        """Count what became of an exposure."""
        name = as_line(self._name(result.task.night, result.task.label))
        self.states[result.state] += 1
        self.findings.update(result.findings)
        self.codes.update(result.codes)
        self.size += result.size
        self.exit_code = max(self.exit_code, result.exit_code)
        if result.state == "failed":
            self._fail(result.reason, result.exit_code, name)
        for code in result.codes:
            if CODES[code][0] == "error":
                _group(self.errors, code, 1).add(name)

    def add_night(self, survey: "Survey", results: Iterable["Result"], left: int) -> None:
        """Count what became of the exposures of a night, how many were left since it was stopped, and what it has besides."""
        for result in results:
            self.add(result)
        self.left += left
        self.frames_missing += sum(last - first + 1 for first, last in survey.gaps)
        self.strays += len(survey.strays)
        self.undated += len(survey.undated)

    def add_bad_night(self, night: str, reason: str, exit_code: int) -> None:
        """Count a night that could not be looked at."""
        self.bad_nights += 1
        self.exit_code = max(self.exit_code, exit_code)
        self._fail(reason, exit_code, as_line(os.path.basename(night)))

    def _fail(self, reason: str, exit_code: int, name: str) -> None:
        group = _group(self.failures, alike(reason), exit_code)
        group.example = group.example or as_line(reason, _LONGEST)
        group.add(name)

    def _name(self, night: str, label: str) -> str:
        return f"{os.path.basename(night)} {label}" if self._nights else label

    def line(self) -> str:
        """Say in one line what became of them."""
        told = [f"{self.states[state]} {state}" for state in STATES if self.states[state]]
        told += [f"{self.bad_nights} {'night' if self.bad_nights == 1 else 'nights'} failed"] if self.bad_nights else []
        undated = f", {self.undated} left out because their begin is not known" if self.undated else ""
        rest = f"{self.frames_missing} frames that nobody has, {self.strays} stray sub-FITS{undated}"
        stopped = f"; {self.stopped()}" if self.stopped() else ""
        return f"{self.exposures} exposures: {', '.join(told) or ('none' if stopped else 'nothing to do')}; {rest}{stopped}"

    def stopped(self) -> str:
        """Say what is left where it was stopped; empty where nothing is."""
        exposures = f"{self.left} {'exposure' if self.left == 1 else 'exposures'}" if self.left else ""
        nights = f"{self.nights_left} {'night' if self.nights_left == 1 else 'nights'}" if self.nights_left else ""
        left = " and ".join(part for part in (exposures, nights) if part)
        return f"stopped with {left} left; run again to go on" if left else ""

    def troubles(self) -> Iterator[str]:
        """Say what failed and why, and which L0s have findings of severity error, each in one line."""
        for reason, group in _in_order(self.failures):
            yield f"failed, exit code {group.exit_code}: {group.named()}: {group.example if group.count == 1 else reason}"
            if group.count > 1 and group.example != reason:
                yield f"such as: {group.example}"
        for code, group in _in_order(self.errors):
            yield f"finding of severity error, exit code {group.exit_code}: {code}: {group.named()}"

    def plain(self) -> dict[str, Any]:
        """Return the counts for JSON."""
        return {
            "exposures": self.exposures,
            "states": {state: self.states[state] for state in STATES},
            "findings": {severity: self.findings[severity] for severity in SEVERITIES},
            "codes": dict(sorted(self.codes.items())),
            "bytes": self.size,
            "frames_missing": self.frames_missing,
            "strays": self.strays,
            "undated": self.undated,
            "left": self.left,
            "nights_left": self.nights_left,
            "stopped": self.stopped(),
            "failures": [
                {"reason": reason, "exit_code": g.exit_code, "count": g.count, "exposures": list(g.names), "example": g.example}
                for reason, g in _in_order(self.failures)
            ],
            "errors": [{"code": code, "count": g.count, "exposures": list(g.names)} for code, g in _in_order(self.errors)],
            "exit_code": self.exit_code,
        }


def alike(reason: str) -> str:
    """Return what is the same in reasons that mean the same: without paths, numbers, and what is in brackets.

    >>> alike("/l0/KP.20240422.fits exists, and is another one (/l0/KP.20240422.fits: card 12 is 'A')")
    '... exists, and is another one'
    >>> alike("/data/2024apr21/Red/kpf_215921.fits: ends after 4000 bytes")
    '...: ends after ... bytes'
    """
    apart = re.sub(r"\(.*", "", as_line(reason, 2000))
    apart = re.sub(r"[^\s:;,]*/[^\s:;,]*|\b\d[\d.]*\b", "...", apart)
    return as_line(re.sub(r"\.\.\.(\s+\.\.\.)+", "...", apart).strip() or _OTHER, _LONGEST)


def _group(groups: dict[str, Group], name: str, exit_code: int) -> Group:
    """Return the group of a name; the last one takes what there is no room for."""
    if name not in groups and len(groups) >= MOST_GROUPS:
        name = _OTHER
    group = groups.setdefault(name, Group(exit_code=exit_code))
    group.exit_code = max(group.exit_code, exit_code)
    return group


def _in_order(groups: dict[str, Group]) -> list[tuple[str, Group]]:
    return sorted(groups.items(), key=lambda item: (item[0] == _OTHER, -item[1].count, item[0]))
