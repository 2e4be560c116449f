"""Samples that any history may be given, and what it has to answer, the obvious way."""

from hypothesis import strategies as st

from assembler.core.samples import Sample, aggregate

NAMES = ["met.TEMP", "met.PRES", 'it\'s.a "NAME"; --', "mon.heart_12"]
ASKED = [*NAMES, "no.body"]
INSTANTS = st.lists(st.floats(-1, 41), min_size=1, max_size=3)
TIME = st.floats(0, 40)


def samples(values):
    """Return a strategy for lists of (name, UNIX seconds, value), with many of the same name and time."""
    return st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 40).map(float), values), max_size=40)


def expected_as_of(rows, instant):
    """Return by name the last of the samples at or before an instant; of the same time the later line counts."""
    told = {}
    for name in NAMES:
        latest = {t: v for n, t, v in rows if n == name and t <= instant}
        if latest:
            told[name] = Sample(time=max(latest), value=latest[max(latest)])
    return told


def expected_during(rows, begin, end):
    """Return by name the numbers over the samples from begin to end."""
    within = {name: sorted({t: v for n, t, v in rows if n == name and begin <= t <= end}.items()) for name in NAMES}
    return {name: aggregate(found) for name, found in within.items() if found}


class Memory:
    """A history in memory, as the protocol says it."""

    def __init__(self, samples: dict[str, dict[float, str]]) -> None:
        self.samples = samples

    def as_of(self, names, instants):
        return [
            {n: Sample(time=t, value=self.samples[n][t]) for n in names if n in self.samples and (t := self._last(n, i)) is not None}
            for i in instants
        ]

    def _last(self, name, instant):
        return max((t for t in self.samples[name] if t <= instant), default=None)

    def during(self, names, begin, end):
        within = {n: [(t, v) for t, v in sorted(self.samples.get(n, {}).items()) if begin <= t <= end] for n in names}
        return {n: aggregate(pairs) for n, pairs in within.items() if pairs}

    def interrupt(self): ...

    def close(self): ...
