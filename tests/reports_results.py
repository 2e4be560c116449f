"""Results of exposures that were never made, for what is told of them."""

from assembler.core.findings import finding
from assembler.service.night import Result
from assembler.service.survey import Stray, Survey, Task

ORIGINS = ("green", "red")


def task(frame: int | None = 7, night: str = "/data/2024apr21", first: str = "kpf_7.fits") -> Task:
    return Task(night=night, frame=frame, first=first, paths=(("green", f"{night}/Green/{first}"),))


def made(frame: int | None = 7, **changes) -> Result:
    """Return a result with one error and one warning, and without red."""
    told = {"state": "made", "path": f"/l0/KP.{frame}.fits", "version": 1, "size": 5_000_000, "exit_code": 1}
    told |= {"findings": {"error": 1, "warning": 1, "info": 3}, "missing": {"red": "truncated"}}
    told |= {"codes": {"truncated": 1, "stale": 1, "time-candidate": 3}}
    told |= {"worst": (finding("truncated", "red ends early", origin="red"), finding("stale", "AIRMASS is old", keyword="AIRMASS"))}
    return Result(**({"task": task(frame)} | told | changes))


def failed(frame: int | None, reason: str, exit_code: int = 4, night: str = "/data/2024apr21") -> Result:
    return Result(task=task(frame, night), state="failed", reason=reason, exit_code=exit_code)


def survey(night: str = "/data/2024apr21", **changes) -> Survey:
    told = {"gaps": ((8, 9), (12, 12)), "strays": (Stray(origin="green", path=f"{night}/Green/x.fits", reason="it is broken"),)}
    return Survey(**({"night": night, "tasks": ()} | told | changes))
