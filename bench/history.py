"""How long a keyword history of ten million samples takes to answer for an exposure.

``python bench/history.py [--samples N]`` makes the history in a temporary directory, and prints medians.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from assembler.telemetry.history import open_history
from assembler.telemetry.sqlite import load

KEYWORDS = 500
ASKED = 300
ROUNDS = 20
START = 1_713_700_000.0


def samples(count: int) -> Iterator[tuple[str, float, str]]:
    """Yield samples of every keyword in turn, ten a second."""
    for number in range(count):
        yield f"svc{number % 7}.KEYWORD{number % KEYWORDS}", START + number * 0.1, f"{number % 9973 / 7:.4f}"


def main() -> None:
    """Make, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=10_000_000)
    count = parser.parse_args().samples
    generator = random.Random(1)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "history.db"
        start = time.perf_counter()
        load(str(path), samples(count))
        print(f"loaded {count} samples in {time.perf_counter() - start:.1f} s, {path.stat().st_size / 1e6:.0f} MB")
        names = [name for name, _, _ in samples(KEYWORDS * 7)][:KEYWORDS]
        history = open_history(f"sqlite:///{path}")
        one, three, during = [], [], []
        for _ in range(ROUNDS):
            wanted = generator.sample(names, ASKED)
            instant = START + generator.uniform(0.2, 0.9) * count * 0.1
            start = time.perf_counter()
            (told,) = history.as_of(wanted, [instant])
            one.append(time.perf_counter() - start)
            assert len(told) == ASKED
            start = time.perf_counter()
            history.as_of(wanted, [instant, instant + 300, instant + 600])
            three.append(time.perf_counter() - start)
            start = time.perf_counter()
            history.during(wanted, instant, instant + 600)
            during.append(time.perf_counter() - start)
        history.close()
    for name, figures in (("one instant", one), ("three instants", three), ("numbers over 600 s", during)):
        print(f"{ASKED} keywords, {name}: median {1000 * statistics.median(figures):.1f} ms, longest {1000 * max(figures):.1f} ms")


if __name__ == "__main__":
    main()
