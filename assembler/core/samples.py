"""Samples: what a keyword history tells of one exposure, and the numbers that it comes to."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

_NUMBER_LENGTH = 40
_AT_ONCE = 4096  # samples; a night-long exposure may have millions


class Sample(NamedTuple):
    """A broadcast: when [UNIX s] and what, as text.

    A tuple, not a dataclass: an exposure has hundreds, and a tuple is made in a third of the time.
    """

    time: float
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregate:
    """What the samples of one history keyword come to; None where no sample is a number.

    ``samples`` counts all of them; ``stddev`` is that of the population; ``first`` and ``last`` are samples as they were.
    """

    samples: int
    average: float | None = None
    stddev: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    first: Sample | None = None
    last: Sample | None = None


NOTHING = Aggregate(samples=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What the keyword history told of one exposure.

    Attributes
    ----------
    instants : mapping of str to int
        By moment, the instant [ns] that was asked for.
    values : mapping of str to (mapping of str to Sample)
        By moment and history keyword, the last value at or before it.
    aggregates : mapping of str to Aggregate
        By history keyword, over the exposure.
    previous : int or None
        When the previous exposure began [ns], where the history tells.
    before : mapping of str to Sample
        By history keyword, the last value as of that instant, of those that have to change between exposures.
    further : mapping of str to tuple of Sample
        By history keyword, samples that decided something else: the exposure service's times, the moment of an event.
    asked : bool
        False when there is no history, or it did not answer.
    failure : str
        Why it did not answer; empty when it did, or when there is none.
    corrected : mapping of str to str
        By keyword of the primary, the value field that it gets, whatever the history told.
    """

    instants: Mapping[str, int] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, Sample]] = field(default_factory=dict)
    aggregates: Mapping[str, Aggregate] = field(default_factory=dict)
    previous: int | None = None
    before: Mapping[str, Sample] = field(default_factory=dict)
    further: Mapping[str, tuple[Sample, ...]] = field(default_factory=dict)
    asked: bool = False
    failure: str = ""
    corrected: Mapping[str, str] = field(default_factory=dict)

    def value(self, moment: str, source: str) -> Sample | None:
        """Return the value of a history keyword at a moment."""
        return self.values.get(moment, {}).get(source)


def aggregate(broadcasts: Iterable[tuple[float, str]]) -> Aggregate:
    """Return what samples come to: (UNIX seconds, value) of each, in the order of time.

    >>> told = aggregate([(1.0, "1.0"), (2.0, "3.0"), (3.0, "Off")])
    >>> told.samples, told.average, told.stddev, told.last.value
    (3, 2.0, 1.0, 'Off')
    """
    samples = count = 0
    first = last = None
    mean = squares = 0.0
    low, high = math.inf, -math.inf
    rest = iter(broadcasts)
    while some := list(islice(rest, _AT_ONCE)):
        if len(some) == 1 and not samples:  # as most keywords have; in a third of the time
            return _of_one(Sample(*some[0]))
        first, last = first or some[0], some[-1]
        samples += len(some)
        numbers = _numbers_of([value for _, value in some])
        if not numbers:
            continue
        center = sum(numbers) / len(numbers)
        step, whole = center - mean, count + len(numbers)
        squares += sum([(number - center) * (number - center) for number in numbers]) + step * step * count * len(numbers) / whole
        mean += step * len(numbers) / whole
        low, high, count = min(low, *numbers), max(high, *numbers), whole
    earliest, latest = Sample(*first) if first else None, Sample(*last) if last else None
    if not count or not all(map(math.isfinite, (mean, squares))):
        return Aggregate(samples=samples, first=earliest, last=latest)
    mean, spread = min(max(mean, low), high), math.sqrt(squares / count)
    return Aggregate(samples=samples, average=mean, stddev=spread, minimum=low, maximum=high, first=earliest, last=latest)


def _of_one(sample: Sample) -> Aggregate:
    number = number_of(sample.value)
    spread = None if number is None else 0.0
    return Aggregate(samples=1, average=number, stddev=spread, minimum=number, maximum=number, first=sample, last=sample)


def _numbers_of(texts: Sequence[str]) -> list[float]:
    """Return the finite numbers among broadcast values; quickly where all of them are."""
    together = "".join(texts)
    if together.isascii() and "_" not in together and max(map(len, texts)) <= _NUMBER_LENGTH:
        try:
            numbers = list(map(float, texts))
        except ValueError:
            numbers = [math.nan]
        if math.isfinite(sum(numbers)):  # and so is each of them
            return numbers
    return [number for text in texts if (number := number_of(text)) is not None]


def number_of(text: str) -> float | None:
    """Return the finite number that a broadcast value is, or None."""
    try:
        number = float(text)
    except ValueError:
        return None
    # Python reads more than FITS and keyword histories have: digits of any script, 1_000, nan.
    return number if math.isfinite(number) and len(text) <= _NUMBER_LENGTH and text.isascii() and "_" not in text else None
