"""Metrics: what was recorded is what Prometheus reads."""

import math
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from assembler.core.findings import CODES, Finding, finding
from assembler.core.states import STATES
from assembler.errors import ConfigurationError, InputError, OutputError, TelemetryError, VerificationError
from assembler.service.meters import BUCKETS, METRICS, Meters


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def read(meters):
    """Return the samples by name and labels, as a parser of Prometheus has them."""
    families = list(text_string_to_metric_families(meters.exposition().decode()))
    assert len({f.name for f in families}) == len(families)
    return {(s.name, *sorted(s.labels.items())): s.value for f in families for s in f.samples}


def value(samples, name, **labels):
    return samples[(name, *sorted(labels.items()))]


def test_what_was_recorded_is_what_is_read():
    clock = Clock()
    meters = Meters(clock)
    meters.exposures({"waiting": 3, "published": 70})
    meters.queue(2)
    meters.followed(5)
    meters.published("first", 135_000_000)
    meters.published("superseding", 1000)
    meters.published("same")
    meters.found([finding("truncated", "x"), finding("truncated", "y"), finding("compressed", "z")])
    meters.failed(OutputError("full"))
    meters.failed(KeyError("bug"))
    meters.history_lag(4.5)
    meters.up("history", True)
    meters.up("lease", False)
    meters.round_ended()
    meters.lost_event()
    clock.now += 7
    samples = read(meters)
    assert {state: value(samples, "assembler_exposures", state=state) for state in STATES} == {
        **dict.fromkeys(STATES, 0.0), "waiting": 3.0, "published": 70.0,
    }  # fmt: skip
    assert value(samples, "assembler_queue_exposures") == 2
    assert value(samples, "assembler_sub_fits_followed") == 5
    assert value(samples, "assembler_written_bytes_total") == 135_001_000
    assert [value(samples, "assembler_l0s_total", kind=kind) for kind in ("first", "superseding", "same")] == [1, 1, 1]
    assert value(samples, "assembler_findings_total", code="truncated", severity="error") == 2
    assert value(samples, "assembler_findings_total", code="compressed", severity="info") == 1
    assert value(samples, "assembler_failures_total", kind="output") == 1
    assert value(samples, "assembler_failures_total", kind="bug") == 1
    assert value(samples, "assembler_history_lag_seconds") == 4.5
    assert (value(samples, "assembler_history_up"), value(samples, "assembler_lease_held")) == (1, 0)
    assert value(samples, "assembler_rounds_total") == 1
    assert value(samples, "assembler_round_age_seconds") == 7
    assert value(samples, "assembler_lost_events_total") == 1
    assert samples[("process_resident_memory_bytes",)] > 0
    assert samples[("process_open_fds",)] > 0


def test_what_was_never_told_is_absent_and_what_was_never_counted_is_zero():
    samples = read(Meters())
    names = {name for name, *_ in samples}
    told = {"queue_exposures", "sub_fits_followed", "history_lag_seconds", "history_up", "lease_held", "input_up", "journal_up"}
    assert not names & {f"assembler_{name}" for name in told}
    counters = {name for name, (kind, _) in METRICS.items() if kind == "counter"}
    assert {f"{name}_total" for name in counters - {"assembler_announcements"}} <= names  # of which each receiver has one
    assert sum(v for (name, *_), v in samples.items() if name.startswith("assembler_") and name.endswith(("_total", "_bucket"))) == 0


def test_each_receiver_has_its_figures_from_the_beginning():
    meters = Meters()
    meters.announcements_waiting({"log": 0, "hook": 3})
    meters.announced("log", received=True)
    meters.announced("log", received=False)
    meters.announced("nobody", received=True)
    samples = read(meters)
    assert value(samples, "assembler_announcements_waiting", receiver="hook") == 3
    assert value(samples, "assembler_announcements_total", receiver="log", result="received") == 1
    assert value(samples, "assembler_announcements_total", receiver="log", result="failed") == 1
    assert value(samples, "assembler_announcements_total", receiver="hook", result="failed") == 0
    assert sum(name == "assembler_announcements_waiting" for name, *_ in samples) == 2


def test_a_lag_that_nobody_knows_any_more_is_absent_again():
    meters = Meters()
    meters.history_lag(1.0)
    meters.history_lag(None)
    assert ("assembler_history_lag_seconds",) not in read(meters)


@given(times=st.lists(st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from(BUCKETS)))
def test_the_histogram_has_every_time_in_its_bucket(times):
    meters = Meters()
    for seconds in times:
        meters.took(seconds)
    samples = read(meters)
    counted = [min(max(0.0, t), 1e9) for t in times if not math.isnan(t)]
    for limit in (*BUCKETS, math.inf):
        key = "+Inf" if math.isinf(limit) else str(limit)
        assert value(samples, "assembler_l0_seconds_bucket", le=key) == sum(t <= limit for t in counted)
    assert value(samples, "assembler_l0_seconds_count") == len(counted)
    assert value(samples, "assembler_l0_seconds_sum") == pytest.approx(math.fsum(counted))


@given(codes=st.lists(st.text(st.characters()) | st.sampled_from(sorted(CODES))), severity=st.sampled_from(["info", "warning", "error"]))
def test_whatever_a_code_is_there_are_only_the_documented_ones_and_other(codes, severity):
    meters = Meters()
    meters.found(Finding(code=c, severity=severity, origin="\n", keyword='"', message="\x00") for c in codes)
    read_codes = {dict(labels)["code"]: v for (name, *labels), v in read(meters).items() if name == "assembler_findings_total" and v}
    assert set(read_codes) <= {*CODES, "other"}
    assert sum(read_codes.values()) == len(codes)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConfigurationError("x"), "configuration"),
        (InputError("x"), "input"),
        (OutputError("x"), "output"),
        (TelemetryError("x"), "telemetry"),
        (VerificationError("x"), "verification"),
        (OSError("x"), "bug"),
    ],
)
def test_failures_are_counted_by_whose_fault_they_are(error, kind):
    meters = Meters()
    meters.failed(error)
    counted = {dict(labels)["kind"]: v for (name, *labels), v in read(meters).items() if name == "assembler_failures_total"}
    assert {k for k, v in counted.items() if v} == {kind}


def test_the_exposition_has_what_is_documented_and_nothing_else():
    meters = Meters()
    for part in ("history", "lease", "input", "journal"):
        meters.up(part, True)
    meters.queue(0)
    meters.followed(0)
    meters.history_lag(0.0)
    meters.announcements_waiting({"log": 0})
    families = [f for f in text_string_to_metric_families(meters.exposition().decode()) if f.name.startswith("assembler_")]
    assert {f.name: (f.type, f.documentation) for f in families} == METRICS


def test_it_takes_the_same_room_however_much_is_counted():
    meters = Meters()
    meters.exposures(dict.fromkeys(STATES, 10**9) | {"nonsense": 3})
    lines = len(meters.exposition().splitlines())
    for n in range(20_000):
        meters.found([Finding(code=f"code-{n}", severity="error", origin=str(n), keyword="", message="")])
        meters.took(float(n))
        meters.published("first", n)
        meters.failed(OutputError(str(n)))
    assert len(meters.exposition().splitlines()) == lines


def test_threads_that_count_at_the_same_time_lose_nothing():
    meters = Meters()

    def count():
        for _ in range(2000):
            meters.round_ended()
            meters.took(0.1)
            meters.published("first", 1)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        samples = read(meters)
        assert value(samples, "assembler_l0_seconds_bucket", le="+Inf") == value(samples, "assembler_l0_seconds_count")
    for thread in threads:
        thread.join()
    samples = read(meters)
    assert value(samples, "assembler_rounds_total") == value(samples, "assembler_l0_seconds_count") == 8000
    assert value(samples, "assembler_written_bytes_total") == 8000


def test_prometheus_is_imported_only_when_it_is_asked_for_and_told_of_when_it_is_missing():
    program = (
        "import sys\nsys.modules['prometheus_client'] = None\nfrom assembler.service.meters import Meters\n"
        "from assembler.errors import ConfigurationError\nmeters = Meters()\nmeters.took(1.0)\n"
        "try: meters.exposition()\nexcept ConfigurationError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert done.stdout.startswith("metrics need prometheus-client (")
    assert done.stdout.endswith("; install l0-assembler[metrics]\n")
