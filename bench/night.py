"""Measure whole nights in batch: `assembler night` with one process and with two, and cat and sync on the same files.

``python bench/night.py`` makes two nights, 500 small exposures in memory and 20 of KPF's size on a disk, runs everybody in turn, round
after round, and prints medians, ratios and whether the promised limits are reached. Each run is a command of its own, from its start to
its end: its start, the survey of the night and its report count. It takes some minutes, 7 GB of memory and 6 GB of disk;
``--quick`` takes a tenth of all.
"""

import argparse
import os
import random
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import FrameType

import report
import runner
from exposures import Night

MEMORY = "/dev/shm"
COUNTS = {"small": 500, "kpf": 20}
SIZES = {"small": 6_500_000, "kpf": 139_200_000}
ROUNDS = 5
ONE_CORE, ONE_CORE_DISK, ONE, TWO, CAT = (
    "one process, one core",
    "one process, one core, onto a disk",
    "one process",
    "two processes",
    "cat",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A contestant, and where its files go."""

    contestant: runner.Fresh
    out: Path


def main() -> int:
    """Run the benchmark; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the exposures, one round")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"rounds [default: {ROUNDS}]")
    parser.add_argument("--dir", metavar="DIR", help="where to make the files [default: a temporary directory on a disk]")
    parser.add_argument("--memory", metavar="DIR", default=MEMORY, help=f"where, in memory [default: {MEMORY}]")
    parser.add_argument("--markdown", metavar="FILE", help="write the tables as Markdown too")
    wanted = parser.parse_args()
    counts = {name: count // 10 if wanted.quick else count for name, count in COUNTS.items()}
    rounds = wanted.rounds or (1 if wanted.quick else ROUNDS)
    signal.signal(signal.SIGTERM, _stop)
    try:
        disk = runner.place(wanted.dir, 2 * SIZES["kpf"] * counts["kpf"] + SIZES["small"] * counts["small"])
        memory = runner.place(wanted.memory, 2 * SIZES["small"] * counts["small"])
        with (
            tempfile.TemporaryDirectory(prefix="assembler-night-", dir=disk) as on_disk,
            tempfile.TemporaryDirectory(prefix="assembler-night-", dir=memory) as in_memory,
        ):
            tables = [report.machine_table(Path(on_disk)), *_measure_all(counts, rounds, Path(on_disk), Path(in_memory))]
    except (runner.BenchError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: stopped", file=sys.stderr)
        return 130
    print("\n\n".join((*(table.text() for table in tables), report.WARNING)))
    if wanted.markdown:
        Path(wanted.markdown).write_text("\n\n".join(table.markdown() for table in tables) + "\n", encoding="utf-8")
    return 0


def _measure_all(counts: Mapping[str, int], rounds: int, on_disk: Path, in_memory: Path) -> Iterator[report.Table]:
    limits: list[report.Limit] = []
    for name, place in (("small", in_memory), ("kpf", on_disk)):
        night = runner.make_night(name, place / name, counts[name])
        costs = _measure(night, _entries(night, place / "l0", on_disk / "l0"), rounds)
        yield _table(night, costs)
        limits += _limits(night, costs)
        shutil.rmtree(place / name)
    yield report.limits_table(limits)


def _entries(night: Night, out: Path, disk: Path) -> list[Entry]:
    """Return everybody who takes part, with the place for the L0s."""
    one, two = _command(night, 1), _command(night, 2)
    if night.name == "small":
        return [
            Entry(contestant=runner.Fresh(name=ONE_CORE, command=one, one_core=True), out=out),
            Entry(contestant=runner.Fresh(name=ONE_CORE_DISK, command=one, one_core=True), out=disk),
            Entry(contestant=runner.Fresh(name=ONE, command=one), out=out),
            Entry(contestant=runner.Fresh(name=TWO, command=two), out=out),
        ]
    script = Path(night.directory).parent / "cat.sh"
    lines = [f'cat {shlex.join(paths)} > "$1/{n}.fits"; sync "$1/{n}.fits"' for n, paths in enumerate(night.exposures)]
    script.write_text("\n".join(("set -e", *lines, "")), encoding="utf-8")
    return [
        Entry(contestant=runner.Fresh(name=CAT, command=("sh", str(script), "{}")), out=out),
        Entry(contestant=runner.Fresh(name=ONE, command=one), out=out),
        Entry(contestant=runner.Fresh(name=TWO, command=two), out=out),
    ]


def _command(night: Night, jobs: int) -> tuple[str, ...]:
    told = (sys.executable, "-m", "assembler", "night", night.directory, "--out", "{}", "-i", night.instrument)
    return (*told, "--history", f"sqlite:///{night.history}", "--jobs", str(jobs))


def _measure(night: Night, entries: Sequence[Entry], rounds: int) -> dict[str, list[runner.Cost]]:
    """Let everybody run in turn, in another order in each round; a round before the first warms up and is not counted."""
    costs: dict[str, list[runner.Cost]] = {entry.contestant.name: [] for entry in entries}
    for number in range(rounds + 1):
        print(f"night of {night.name}: {f'round {number} of {rounds}' if number else 'warming up'}", file=sys.stderr)
        runner.read(path for paths in night.exposures for path in paths)
        for entry in random.Random(number).sample(entries, len(entries)):
            entry.out.mkdir(parents=True)
            os.sync()
            cost = entry.contestant.run([entry.out])
            made = len(list(entry.out.glob("*.fits")))
            if made != len(night.exposures):
                raise runner.BenchError(f"{entry.contestant.name} made {made} files of {len(night.exposures)} exposures")
            if number:
                costs[entry.contestant.name].append(cost)
            shutil.rmtree(entry.out)
    return costs


def _table(night: Night, costs: Mapping[str, Sequence[runner.Cost]]) -> report.Table:
    base = CAT if CAT in costs else ONE
    rows = []
    for name, mine in costs.items():
        times = [cost.seconds for cost in mine]
        rate = 1 / median(times)
        rows.append(
            (
                name,
                f"{median(times):.2f}",
                f"{min(times):.2f} to {max(times):.2f}",
                f"{len(night.exposures) * rate:.1f}",
                f"{night.size / 1e6 * rate:.0f}",
                f"{1 / report.ratio(costs, name, base):.2f}",
                f"{1 / report.best_ratio(costs, name, base):.2f}",
            )
        )
    rounds = len(costs[base])
    title = (
        f"A night of {len(night.exposures)} {night.name} exposures: {night.size / 1e9:.1f} GB, {night.cards} cards each, {rounds} rounds"
    )
    quicker = "than cat" if base == CAT else "than one process"
    columns = ("", "median [s]", "range [s]", "exposures/s", "MB/s", f"times as quick {quicker}", "by the best times")
    return report.Table(title=title, columns=columns, rows=tuple(rows))


def _limits(night: Night, costs: Mapping[str, Sequence[runner.Cost]]) -> list[report.Limit]:
    """Return the promises that a night tells something about."""
    name = f"night of {night.name}"
    if night.name == "small":
        count = len(night.exposures)
        times = [cost.seconds for cost in costs[ONE_CORE]]
        measured, best = count / median(times), count / min(times)
        promise = f"{ONE_CORE}, in memory"
        rate = report.Limit(exposure=name, promise=promise, measured=measured, limit=40, unit="exposures/s", at_least=True, best=best)
        return [rate, _quicker(name, costs, TWO, ONE, "two processes against one, in memory", 1.7)]
    return [_quicker(name, costs, who, CAT, f"MB/s against cat, {who}", 0.8) for who in (ONE, TWO)]


def _quicker(name: str, costs: Mapping[str, Sequence[runner.Cost]], who: str, base: str, promise: str, limit: float) -> report.Limit:
    measured, best = 1 / report.ratio(costs, who, base), 1 / report.best_ratio(costs, who, base)
    return report.Limit(exposure=name, promise=promise, measured=measured, limit=limit, unit="x", at_least=True, best=best)


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
