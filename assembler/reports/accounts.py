"""What came of a night as plain values: what JSON has, and what the other reports are made of."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from assembler import changes
from assembler.reports.tally import Tally

if TYPE_CHECKING:
    from assembler.service.night import Result
    from assembler.service.survey import Survey

Plain = dict[str, Any]


def night_account(survey: "Survey", results: Iterable["Result"], origins: Sequence[str], left: int = 0) -> Plain:
    """Return what came of a night, and how many of its exposures were left since it was stopped."""
    tally, told = Tally(), sorted(results, key=_in_order)
    tally.add_night(survey, told, left)
    return {
        "night": survey.night,
        "summary": tally.plain(),
        "origins": list(origins),
        "exposures": [_exposure(result) for result in told],
        "gaps": [list(gap) for gap in survey.gaps],
        "strays": [{"origin": s.origin, "path": s.path, "reason": s.reason} for s in survey.strays],
        "undated": list(survey.undated),
        "reason": "",
    }


def bad_night_account(night: str, reason: str, exit_code: int) -> Plain:
    """Return what came of a night that could not be looked at."""
    tally = Tally()
    tally.add_bad_night(night, reason, exit_code)
    return _without_exposures(night, tally, reason)


def left_night_account(night: str) -> Plain:
    """Return what is told of a night that was not looked at, since it was stopped before."""
    tally = Tally()
    tally.nights_left = 1
    return _without_exposures(night, tally, "")


def _without_exposures(night: str, tally: Tally, reason: str) -> Plain:
    empty: Plain = {"origins": [], "exposures": [], "gaps": [], "strays": [], "undated": []}
    return {"night": night, "summary": tally.plain(), **empty, "reason": reason}


def _in_order(result: "Result") -> tuple[bool, int, str]:
    return result.task.frame is None, result.task.frame or 0, result.task.first


def _exposure(result: "Result") -> Plain:
    return {
        "frame": result.task.frame,
        "first": result.task.first,
        "state": result.state,
        "l0": result.path,
        "version": result.version,
        "sub_fits": dict(result.task.paths),
        "missing": result.missing,
        "findings": result.findings,
        "codes": result.codes,
        "worst": [asdict(found) for found in result.worst],
        "reason": result.reason,
        "exit_code": result.exit_code,
        "diff": changes.plain(result.comparison) if result.comparison else None,
    }
