"""Measure the assembler against cat, plain astropy and plain fitsio, all in one run on the same data.

``python bench/bench.py`` makes three exposures in a temporary directory, lets everybody make one file of each in turn,
round after round, and prints medians, ratios, peak memory and whether the promised limits are reached. It takes some
minutes and 4 GB of disk; ``--quick`` takes seconds.
"""

import argparse
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

import report
import runner

EXPOSURES = ("small", "kpf", "wide")
QUICK_ROUNDS, ROUNDS = 2, 5
SMALL_TIMES = 3
SPACE = {"small": 300_000_000, "kpf": 500_000_000, "wide": 4_000_000_000}


def main() -> int:
    """Run the benchmark; return its exit code."""
    wanted = _arguments()
    names = EXPOSURES[:1] if wanted.quick else EXPOSURES
    signal.signal(signal.SIGTERM, _stop)
    try:
        parent = runner.place(wanted.dir, max(SPACE[name] for name in names))
        with tempfile.TemporaryDirectory(prefix="assembler-bench-", dir=parent) as directory:
            tables = [report.machine_table(Path(directory)), *_measure_all(names, wanted.rounds, Path(directory), quick=wanted.quick)]
    except (runner.BenchError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: stopped", file=sys.stderr)
        return 130
    print("\n\n".join((*(table.text() for table in tables), report.WARNING)))
    if wanted.markdown:
        text = "\n\n".join(("# Performance", report.WARNING, *(table.markdown() for table in tables)))
        Path(wanted.markdown).write_text(text + "\n", encoding="utf-8")
    return 0


def _measure_all(names: Sequence[str], rounds: int | None, directory: Path, *, quick: bool) -> Iterator[report.Table]:
    limits: list[report.Limit] = []
    for name in names:
        exposure, told = runner.make(name, directory / name)
        number = rounds or (QUICK_ROUNDS if quick else ROUNDS)
        if name == "small" and not quick:
            number *= SMALL_TIMES  # its runs are short, and so their times are noisy
        with ExitStack() as stack:
            everybody = runner.contestants(exposure, told, stack)
            costs = runner.measure(everybody, exposure, directory / "output", number)
        yield report.costs_table(exposure, costs, runner.least_peak())
        cards = report.cards_table(exposure, costs)
        if cards:
            yield cards
        limits += report.limits_of(exposure, costs)
        shutil.rmtree(directory / name)
    yield report.limits_table(limits)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the assembler against cat, plain astropy and plain fitsio.")
    parser.add_argument("--quick", action="store_true", help=f"only the small exposure, {QUICK_ROUNDS} rounds")
    parser.add_argument(
        "--rounds", type=_count, metavar="N", help=f"rounds [default: {ROUNDS}; {SMALL_TIMES} times as many of the small one]"
    )
    parser.add_argument("--dir", metavar="DIR", help="where to make the files [default: a temporary directory on a disk]")
    parser.add_argument("--markdown", metavar="FILE", help="write the tables as Markdown too")
    return parser.parse_args()


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least one round is needed")
    return number


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
