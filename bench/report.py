"""What the benchmark found: tables of medians and ratios, the limits, and the facts of the machine."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

from exposures import Exposure
from runner import Cost, filesystem

WARNING = (
    "Seconds on a shared machine are noisy, those of disks most of all: the ratios are what counts. They compare runs that "
    "followed each other within a round. The limits are held against the median of the ratios of the rounds. Where the "
    "best times tell something else, the machine may have been busy with something else, or its memory not ready: a virtual "
    "one may have given it back to its host. Then measure again, with more rounds."
)
LIBRARIES = ("numpy", "astropy", "fitsio", "pydantic", "ruamel.yaml", "click")
ROWS = (
    *("cat", "assembler, fresh", "assembler, warm", "astropy, fresh", "astropy, warm", "fitsio, fresh", "fitsio, warm"),
    "assembler, one core",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of words; the first columns, as many as ``left`` says, are set to the left, the others to the right."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 1

    def text(self) -> str:
        """Return it for a terminal."""
        widths = [max(len(row[n]) for row in (self.columns, *self.rows)) for n in range(len(self.columns))]
        lines = [
            "  ".join(
                cell.ljust(width) if n < self.left else cell.rjust(width) for n, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in (self.columns, *self.rows)
        ]
        return "\n".join((self.title, "", lines[0], "-" * len(lines[0]), *lines[1:]))

    def markdown(self) -> str:
        """Return it as Markdown."""
        rule = tuple("---" if n < self.left else "---:" for n in range(len(self.columns)))
        return "\n".join((f"## {self.title}", "", *(f"| {' | '.join(row)} |" for row in (self.columns, rule, *self.rows))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """Something that was promised, and what was measured of it; ``best`` is the same by the best times."""

    exposure: str
    promise: str
    measured: float
    limit: float
    unit: str
    at_least: bool = False
    best: float | None = None

    @property
    def verdict(self) -> str:
        """``reached``, or by how much it was missed."""
        if self.measured >= self.limit if self.at_least else self.measured <= self.limit:
            return "reached"
        return f"missed by {abs(self.measured - self.limit) / self.limit * 100:.0f} %"

    def row(self) -> tuple[str, ...]:
        """Return it as a row of a table."""
        bound = f"{'>=' if self.at_least else '<='} {self.limit:g} {self.unit}"
        best = f"{self.best:.2f} {self.unit}" if self.best is not None else ""
        return self.exposure, self.promise, bound, f"{self.measured:.2f} {self.unit}", self.verdict, best


def ratio(costs: Mapping[str, Sequence[Cost]], name: str, base: str) -> float:
    """Return the median of the ratios of the rounds."""
    return median(mine.seconds / theirs.seconds for mine, theirs in zip(costs[name], costs[base], strict=True))


def best_ratio(costs: Mapping[str, Sequence[Cost]], name: str, base: str) -> float:
    """Return the ratio of the shortest times: what noise can only add to is least disturbed there."""
    return _best(costs, name) / _best(costs, base)


def costs_table(exposure: Exposure, costs: Mapping[str, Sequence[Cost]], least_peak: float) -> Table:
    """Return the table of an exposure: who took how long, and how much memory.

    Parameters
    ----------
    least_peak : float
        Peak memory [MiB] below which that of a fresh process cannot be told.
    """
    base = _seconds(costs, "cat")
    rows = []
    for name in (n for n in ROWS if n in costs):
        times = [cost.seconds for cost in costs[name]]
        peak = max(cost.peak for cost in costs[name])
        rows.append(
            (
                name,
                f"{median(times):.3f}",
                f"{min(times):.3f} to {max(times):.3f}",
                f"{median(cost.cpu for cost in costs[name]):.3f}",
                f"{median(times) / base:.2f}",
                f"{ratio(costs, name, 'cat'):.2f}",
                f"{best_ratio(costs, name, 'cat'):.2f}",
                f"< {least_peak:.0f}" if peak <= least_peak * 1.05 else f"{peak:.0f}",
            )
        )
    columns = ("", "median [s]", "range [s]", "CPU [s]", "ratio of medians", "median ratio", "ratio of best", "peak [MiB]")
    title = (
        f"{exposure.name}: {_size(exposure.size)} in {len(exposure.inputs)} sub-FITS, {exposure.cards} cards, {len(costs['cat'])} rounds"
    )
    return Table(title=title, columns=columns, rows=tuple(rows))


def limits_of(exposure: Exposure, costs: Mapping[str, Sequence[Cost]]) -> list[Limit]:
    """Return the promises that an exposure tells something about."""
    name, limits = exposure.name, []
    bounds = {"kpf": (2.0, 1.25), "wide": (1.3, 1.3)}.get(name)
    for state, bound in zip(("fresh", "warm"), bounds or (), strict=False):
        limits.append(_ratio_limit(name, costs, state, "cat", "cat", bound))
    for state in ("fresh", "warm"):
        limits.append(_ratio_limit(name, costs, state, f"astropy, {state}", "plain astropy", 0.5))
    peak = max(cost.peak for cost in costs["assembler, fresh"])
    limits.append(Limit(exposure=name, promise="peak memory, fresh", measured=peak, limit=80, unit="MiB"))
    if "plan" in costs:
        planning, best = _seconds(costs, "plan") * 1000, _best(costs, "plan") * 1000
        limits.append(Limit(exposure=name, promise="cards: planning, warm", measured=planning, limit=20, unit="ms", best=best))
    if "assembler, one core" in costs:
        rate, best = 1 / _seconds(costs, "assembler, one core"), 1 / _best(costs, "assembler, one core")
        limits.append(Limit(exposure=name, promise="warm, one core", measured=rate, limit=40, unit="exposures/s", at_least=True, best=best))
    return limits


def limits_table(limits: Sequence[Limit]) -> Table:
    """Return the promises and whether they are kept."""
    columns = ("exposure", "promise", "limit", "measured", "verdict", "by the best times")
    return Table(title="Limits", columns=columns, rows=tuple(limit.row() for limit in limits), left=len(columns))


def cards_table(exposure: Exposure, costs: Mapping[str, Sequence[Cost]]) -> Table | None:
    """Return what the cards of an exposure cost, where that was measured."""
    if "plan" not in costs:
        return None
    rows = []
    for name, told in (("scan", "reading the headers"), ("plan", "planning: cards, times, telemetry")):
        seconds = _seconds(costs, name)
        rows.append((told, f"{seconds * 1e3:.2f}", f"{seconds / exposure.cards * 1e6:.2f}"))
    return Table(title=f"{exposure.name}: what the cards cost, warm", columns=("", "exposure [ms]", "card [us]"), rows=tuple(rows))


def machine_table(directory: Path) -> Table:
    """Return the facts of this machine; no path and no name of it is among them."""
    rows = [
        ("CPU", cpu_model()),
        ("cores", str(len(os.sched_getaffinity(0)))),
        ("kernel", f"{platform.system()} {platform.release()}"),
        ("file system", filesystem(directory)),
        ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
    ]
    for library in LIBRARIES:
        try:
            rows.append((library, version(library)))
        except PackageNotFoundError:
            continue
    return Table(title="Machine", columns=("", "what"), rows=tuple(rows), left=2)


def cpu_model() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _ratio_limit(name: str, costs: Mapping[str, Sequence[Cost]], state: str, base: str, told: str, limit: float) -> Limit:
    mine = f"assembler, {state}"
    measured, best = ratio(costs, mine, base), best_ratio(costs, mine, base)
    return Limit(exposure=name, promise=f"time against {told}, {state}", measured=measured, limit=limit, unit="x", best=best)


def _seconds(costs: Mapping[str, Sequence[Cost]], name: str) -> float:
    return median(cost.seconds for cost in costs[name])


def _best(costs: Mapping[str, Sequence[Cost]], name: str) -> float:
    return min(cost.seconds for cost in costs[name])


def _size(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 10**9 else f"{size / 1e6:.0f} MB"
