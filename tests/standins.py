"""Stand-ins for L0s: a few bytes that tell their version and which one they replaced, and who replaces them all the time."""

import itertools
import json
import os
from pathlib import Path

from assembler.fits.versions import Standing, supersede_l0
from assembler.fits.writer import draft, remove_abandoned

NAME = "x.fits"


def look(path: Path) -> tuple[dict[str, object], Standing]:
    """Read a stand-in for an L0, which tells its version and which one it replaced."""
    with path.open("rb", buffering=0) as file:
        status = os.fstat(file.fileno())
        told = json.loads(file.read())
    signature = (status.st_size, status.st_mtime_ns, status.st_ino)
    return told, Standing(path=path, version=told["version"], written="", signature=signature)


def write(path: Path, told: dict[str, object]) -> None:
    path.write_text(json.dumps(told))


def replace_once(directory: Path, who: str, won: list[str]) -> None:
    """Make the next version, and plan again as often as somebody else is faster."""
    for turn in itertools.count():
        remove_abandoned(directory, NAME)
        old, standing = look(directory / NAME)
        with draft(directory, NAME) as target:
            mine = {"version": standing.version + 1, "id": f"{who}{turn}", "over": old["id"]}
            try:
                write(target.path, mine)
            except FileNotFoundError:
                continue
            if supersede_l0(target, NAME, standing):
                won.append(str(mine["id"]))
                return


def chain(directory: Path) -> list[str]:
    """Check that every version is there once, each made over the one before; return who made them."""
    newest, standing = look(directory / NAME)
    older = [look(directory / "superseded" / f"x.v{number}.fits")[0] for number in range(1, standing.version)]
    versions = [*older, newest]
    assert [v["version"] for v in versions] == list(range(1, standing.version + 1))
    assert [v["over"] for v in versions] == [None, *(v["id"] for v in versions[:-1])]
    return [str(v["id"]) for v in versions]
