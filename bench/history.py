"""How long a keyword history of ten million samples takes to answer for an exposure, in a file and in a server.

``python bench/history.py [--samples N] [--only sqlite|postgresql]`` makes the histories in a temporary directory, PostgreSQL
with a server of its own, and prints medians, and whether three instants of 300 keywords are told within the promised limit.
"""

import argparse
import atexit
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from assembler.telemetry.history import History, load_history, open_history

KEYWORDS = 500
ASKED = 300
ROUNDS = 20
START = 1_713_700_000.0
LIMIT = 0.3
"""What a question for all keywords at begin, middle and end may take [s]."""


def samples(count: int) -> Iterator[tuple[str, float, str]]:
    """Yield samples of every keyword in turn, ten a second."""
    for number in range(count):
        yield f"svc{number % 7}.KEYWORD{number % KEYWORDS}", START + number * 0.1, f"{number % 9973 / 7:.4f}"


@contextmanager
def sqlite(directory: Path) -> Iterator[str]:
    yield f"sqlite:///{directory / 'history.db'}"


@contextmanager
def postgresql(directory: Path) -> Iterator[str]:
    os.environ["XDG_RUNTIME_DIR"] = str(directory)  # where pgserver has its lock; it warns where there is none
    import pgserver

    server = pgserver.get_server(directory / "server")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        atexit.unregister(server._cleanup)  # noqa: SLF001 - it needs the directory


KINDS = {"SQLite": sqlite, "PostgreSQL": postgresql}


def main() -> None:
    """Make, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=10_000_000)
    parser.add_argument("--only", choices=[kind.lower() for kind in KINDS])
    wanted = parser.parse_args()
    for kind, place in KINDS.items():
        if wanted.only in (None, kind.lower()):
            with (
                tempfile.TemporaryDirectory(prefix="history-bench-", ignore_cleanup_errors=True) as directory,
                place(Path(directory)) as url,
            ):
                measure(kind, url, wanted.samples, Path(directory))


def measure(kind: str, url: str, count: int, directory: Path) -> None:
    start = time.perf_counter()
    load_history(url, samples(count))
    taken, size = time.perf_counter() - start, sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    print(f"{kind}: loaded {count} samples in {taken:.1f} s, {size / 1e6:.0f} MB with its log", flush=True)
    history = open_history(url)
    try:
        figures = ask(history, count)
    finally:
        history.close()
    for name, taken in figures.items():
        median = statistics.median(taken)
        limit = f", limit {1000 * LIMIT:.0f} ms: {'met' if median <= LIMIT else 'MISSED'}" if name == "three instants" else ""
        print(f"{kind}: {ASKED} keywords, {name}: median {1000 * median:.1f} ms, longest {1000 * max(taken):.1f} ms{limit}", flush=True)


def ask(history: History, count: int) -> dict[str, list[float]]:
    """Return how long each kind of question took, round after round [s]."""
    generator = random.Random(1)
    names = [name for name, _, _ in samples(KEYWORDS * 7)][:KEYWORDS]
    figures: dict[str, list[float]] = {"one instant": [], "three instants": [], "numbers over 600 s": []}
    for _ in range(ROUNDS):
        wanted = generator.sample(names, ASKED)
        instant = START + generator.uniform(0.2, 0.9) * count * 0.1
        questions: tuple[Callable[[], Any], ...] = (
            partial(history.as_of, wanted, [instant]),
            partial(history.as_of, wanted, [instant, instant + 300, instant + 600]),
            partial(history.during, wanted, instant, instant + 600),
        )
        for taken, question in zip(figures.values(), questions, strict=True):
            start = time.perf_counter()
            told = question()
            taken.append(time.perf_counter() - start)
            assert isinstance(told, dict) or all(len(values) == ASKED for values in told)
    return figures


if __name__ == "__main__":
    main()
