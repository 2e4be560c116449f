"""What the watcher measured, as Prometheus reads it: a fixed number of figures, however long it runs."""

import math
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from threading import Lock
from typing import TYPE_CHECKING, Literal

from assembler.core.findings import CODES, Finding
from assembler.core.states import STATES
from assembler.errors import ConfigurationError, InputError, OutputError, TelemetryError, VerificationError

if TYPE_CHECKING:
    from prometheus_client.core import Metric
    from prometheus_client.registry import CollectorRegistry

BUCKETS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0)
"""Upper limits [s] of the histogram of how long an L0 took."""

Published = Literal["first", "superseding", "same"]
Up = Literal["history", "lease", "input", "journal"]

METRICS: dict[str, tuple[str, str]] = {
    "assembler_exposures": ("gauge", "Exposures that the journal knows, by state."),
    "assembler_l0_seconds": ("histogram", "Seconds from the last sub-FITS of an exposure to its L0."),
    "assembler_queue_exposures": ("gauge", "Exposures that are ready and not yet assembled."),
    "assembler_sub_fits_followed": ("gauge", "Sub-FITS that are not known to be whole yet."),
    "assembler_written_bytes": ("counter", "Bytes of L0s that were written."),
    "assembler_l0s": ("counter", "L0s that were published: first versions, superseding ones, and those found to be the same as before."),
    "assembler_findings": ("counter", "Findings of L0s, by code and severity."),
    "assembler_failures": ("counter", "Attempts at an exposure that failed, by kind."),
    "assembler_history_lag_seconds": ("gauge", "How old the newest sample of the keyword history is; absent while that is not known."),
    "assembler_history_up": ("gauge", "1 when the keyword history answers."),
    "assembler_lease_held": ("gauge", "1 when this watcher holds the lease of the output directory."),
    "assembler_input_up": ("gauge", "1 when the input directory is there."),
    "assembler_journal_up": ("gauge", "1 when the journal can be written."),
    "assembler_rounds": ("counter", "Rounds over the input directory that ended."),
    "assembler_round_age_seconds": ("gauge", "Seconds since a round ended, or since the start."),
    "assembler_announcements": ("counter", "Attempts to announce something to a receiver, by result: received, or failed."),
    "assembler_announcements_waiting": ("gauge", "Announcements that a receiver does not have yet."),
    "assembler_lost_events": ("counter", "Events that the log did not take, because its disk is full or its reader is gone."),
}  # fmt: skip
"""Name, type and meaning of each metric, as docs/metrics.md lists them; the samples of a counter end in ``_total``."""

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_UP: dict[Up, str] = {
    "history": "assembler_history_up", "lease": "assembler_lease_held", "input": "assembler_input_up", "journal": "assembler_journal_up",
}  # fmt: skip
_PUBLISHED: tuple[Published, ...] = ("first", "superseding", "same")
_FAILURES: tuple[tuple[type[BaseException], str], ...] = (
    (ConfigurationError, "configuration"), (InputError, "input"), (OutputError, "output"), (TelemetryError, "telemetry"),
    (VerificationError, "verification"), (BaseException, "bug"),
)  # fmt: skip
_ANNOUNCED = ("received", "failed")
_SEVERITIES = ("info", "warning", "error")
_OTHER = "other"


class Meters:
    """Counts and remembers; any thread may call.

    Parameters
    ----------
    clock : callable
        Returns seconds of a clock that never goes back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._gauges: dict[str, float] = {}
        self._counts: Counter[str] = Counter()
        self._states: dict[str, int] = dict.fromkeys(STATES, 0)
        self._published: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._findings: Counter[tuple[str, str]] = Counter()
        self._announced: Counter[tuple[str, str]] = Counter()
        self._waiting: dict[str, int] = {}
        self._buckets = [0] * (len(BUCKETS) + 1)
        self._seconds = 0.0
        self._round_ended = clock()
        self._registry: CollectorRegistry | None = None

    def exposures(self, by_state: Mapping[str, int]) -> None:
        """Remember how many exposures are in each state; those that are not named have none."""
        with self._lock:
            self._states = {state: max(0, by_state.get(state, 0)) for state in STATES}

    def queue(self, exposures: int) -> None:
        """Remember how many exposures are ready and not yet assembled."""
        self._set("assembler_queue_exposures", exposures)

    def followed(self, sub_fits: int) -> None:
        """Remember how many sub-FITS are not known to be whole yet."""
        self._set("assembler_sub_fits_followed", sub_fits)

    def history_lag(self, seconds: float | None) -> None:
        """Remember how old the newest sample of the history is [s]; None when nobody knows."""
        self._set("assembler_history_lag_seconds", math.nan if seconds is None else seconds)

    def up(self, part: Up, is_up: bool) -> None:
        """Remember whether the history answers, the lease is held, the input is there, the journal can be written."""
        self._set(_UP[part], float(is_up))

    def published(self, kind: Published, written: int = 0) -> None:
        """Count an L0, and the bytes that were written for it."""
        with self._lock:
            self._published[kind if kind in _PUBLISHED else "first"] += 1
            self._counts["assembler_written_bytes"] += max(0, written)

    def took(self, seconds: float) -> None:
        """Count how long an L0 took from the last sub-FITS [s]; less than nothing, as when a clock was set, counts as nothing."""
        if math.isnan(seconds):
            return
        seconds = min(max(0.0, seconds), 1e9)
        with self._lock:
            self._buckets[bisect_left(BUCKETS, seconds)] += 1
            self._seconds += seconds

    def found(self, findings: Iterable[Finding]) -> None:
        """Count the findings of an L0."""
        with self._lock:
            for finding in findings:
                severity = finding.severity if finding.severity in _SEVERITIES else "error"
                known = finding.code in CODES and CODES[finding.code][0] == severity
                self._findings[finding.code if known else _OTHER, severity] += 1

    def failed(self, error: BaseException) -> None:
        """Count an attempt that failed."""
        kind = next(kind for cls, kind in _FAILURES if isinstance(error, cls))
        with self._lock:
            self._failures[kind] += 1

    def announced(self, receiver: str, *, received: bool) -> None:
        """Count an attempt to announce something."""
        with self._lock:
            self._announced[receiver, "received" if received else "failed"] += 1

    def announcements_waiting(self, by_receiver: Mapping[str, int]) -> None:
        """Remember how many announcements wait for each receiver."""
        with self._lock:
            self._waiting = dict(by_receiver)

    def round_ended(self) -> None:
        """Count a round."""
        with self._lock:
            self._counts["assembler_rounds"] += 1
            self._round_ended = self._clock()

    def lost_event(self) -> None:
        """Count an event that the log did not take. A signal may do so while its own thread counts something: it takes no lock."""
        self._counts["assembler_lost_events"] += 1

    def exposition(self) -> bytes:
        """Return all figures in the text format of Prometheus, with those of the process: memory, open files, processor time.

        Raises
        ------
        ConfigurationError
            When prometheus-client is not installed.
        """
        try:
            from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
        except ImportError as error:
            raise ConfigurationError(f"metrics need prometheus-client ({error}); install l0-assembler[metrics]") from error
        if self._registry is None:
            registry = CollectorRegistry(auto_describe=False)
            registry.register(self)
            ProcessCollector(registry=registry)
            self._registry = registry
        return generate_latest(self._registry)

    def collect(self) -> "Iterator[Metric]":
        """Yield each metric, for prometheus-client."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        labelled, plain, buckets, seconds = self._snapshot()
        for name, (kind, meaning) in METRICS.items():
            if kind == "histogram":
                sums = list(accumulate(buckets))
                limits = [*(str(limit) for limit in BUCKETS), "+Inf"]
                yield HistogramMetricFamily(name, meaning, buckets=list(zip(limits, sums, strict=True)), sum_value=seconds)
                continue
            labels, samples = labelled.get(name, ((), {(): plain[name]} if name in plain else {}))
            family = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
            metric = family(name, meaning, labels=labels)
            for values, value in samples.items():
                metric.add_metric(values, value)
            if samples:
                yield metric

    def _set(self, name: str, value: float) -> None:
        with self._lock:
            self._gauges[name] = float(value)

    def _snapshot(self) -> "tuple[_Labelled, dict[str, float], list[int], float]":
        """Return all figures as they are at one instant; counters that have counted nothing yet are there, as zeros."""
        codes = [*((code, severity) for code, (severity, _) in CODES.items()), *((_OTHER, severity) for severity in _SEVERITIES)]
        with self._lock:
            labelled: _Labelled = {
                "assembler_exposures": (("state",), {(state,): float(n) for state, n in self._states.items()}),
                "assembler_l0s": (("kind",), {(kind,): float(self._published[kind]) for kind in _PUBLISHED}),
                "assembler_findings": (("code", "severity"), {pair: float(self._findings[pair]) for pair in codes}),
                "assembler_failures": (("kind",), {(kind,): float(self._failures[kind]) for _, kind in _FAILURES}),
                "assembler_announcements": (
                    ("receiver", "result"),
                    {(name, result): float(self._announced[name, result]) for name in self._waiting for result in _ANNOUNCED},
                ),
                "assembler_announcements_waiting": (("receiver",), {(name,): float(n) for name, n in self._waiting.items()}),
            }
            counters = (name for name, (kind, _) in METRICS.items() if kind == "counter" and name not in labelled)
            plain = {name: float(self._counts[name]) for name in counters}
            plain |= {name: value for name, value in self._gauges.items() if not math.isnan(value)}
            plain["assembler_round_age_seconds"] = max(0.0, self._clock() - self._round_ended)
            return labelled, plain, list(self._buckets), self._seconds


_Labelled = dict[str, tuple[tuple[str, ...], dict[tuple[str, ...], float]]]
