"""Replay: an L0 stands in for the history that it was made with, and tells what changed there since."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from samples import Memory

from assembler.core.cards import read_records
from assembler.core.instrument import Event, Snapshot, TelemetryKeyword
from assembler.core.tables import Table
from assembler.errors import ConfigurationError, TelemetryError
from assembler.fits.blocks import scan
from assembler.service.finder import find_given, find_night
from assembler.service.pipeline import plan_exposure
from assembler.service.reader import own_table
from assembler.service.replay import RecordedHistory, compare, open_history
from assembler.telemetry import sqlite


@pytest.fixture
def l0(found, make, history_url) -> Path:
    return make(found, history_url).path


def primary(path: Path) -> list[tuple[str, ...]]:
    """Return the cards of the primary, but for those that tell where the file is."""
    return [r.images for r in read_records(scan(str(path)).hdus[0].images) if r.keyword not in ("OUTDIR", "CHECKSUM")]


def telemetry(path: Path) -> Table:
    return own_table(scan(str(path)), "TELEMETRY")


def test_an_l0_replayed_gives_the_same_l0(found, make, l0, tmp_path):
    second = make(found, f"l0://{l0}", out=tmp_path / "second").path
    third = make(found, f"l0://{second}", out=tmp_path / "third").path
    for again in (second, third):
        assert primary(again) == primary(l0)
        assert telemetry(again) == telemetry(l0)


def test_what_a_history_tells_otherwise_by_now_is_named(l0, history_url):
    opened = open_history(history_url)
    assert compare(RecordedHistory(l0), opened) == []
    opened.close()
    begin = RecordedHistory(l0).instants["begin"] / 1e9
    path = history_url.removeprefix("sqlite:///")
    sqlite.load(path, [("dcs1.AIRMASS", begin + 25.0, "1.99"), ("kpfmon.heart_12", begin - 60.0, "alive")])
    opened = open_history(history_url)
    changes = compare(RecordedHistory(l0), opened)
    opened.close()
    told = {(c.keyword, c.what): c.history for c in changes}
    assert set(told) == {
        ("dcs1.AIRMASS", "end"), ("dcs1.AIRMASS", "numbers"),
        ("kpfmon.heart_12", "begin"), ("kpfmon.heart_12", "middle"), ("kpfmon.heart_12", "end"),
    }  # fmt: skip
    assert told["kpfmon.heart_12", "begin"].startswith("'alive' (2024-04-22T07:59:")
    assert {c.l0 for c in changes if c.keyword == "kpfmon.heart_12"} == {"not available"}


def test_a_replay_for_another_exposure_is_refused_and_the_l0_says_so(kpf, night, l0, tmp_path):
    (green,) = (night.directory / "Green").iterdir()
    green.write_bytes(green.read_bytes().replace(b"2024-04-22T08:0", b"2024-04-22T09:0"))
    plan = plan_exposure(find_given(kpf, [str(green)]), open_history(f"l0://{l0}"), tmp_path, version="test", now=0)
    (told,) = [f for f in plan.findings if f.code == "history-unavailable"]
    assert "its telemetry is that of 2024-04-22T08:00:32.886179" in told.message


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 10**6), st.binary(min_size=1, max_size=3)), min_size=1, max_size=5))
def test_an_l0_that_was_tampered_with_is_replayed_or_refused(found, make, tmp_path, flips):
    small = tmp_path / "small.fits"
    if not small.exists():
        shutil.copy(make(found, Memory({"dcs1.UT": {BEGIN: "08:00"}})).path, small)
    hdu = next(h for h in scan(str(small)).hdus if h.extname == "TELEMETRY")
    data = bytearray(small.read_bytes())
    for place, bytes_ in flips:
        at = hdu.offset - 2880 + place % (hdu.length + 2880)
        data[at : at + len(bytes_)] = bytes_
    broken = tmp_path / "broken.fits"
    broken.write_bytes(data)
    try:
        opened = open_history(f"l0://{broken}")
    except TelemetryError:
        return
    for answer in opened.as_of(opened.names, [0.0, 2e9]):
        assert all(isinstance(sample.value, str) for sample in answer.values())


@pytest.mark.parametrize("what", ["missing.fits", "no.fits", "plain.fits"])
def test_what_is_no_l0_is_no_history(night, tmp_path, what):
    (tmp_path / "no.fits").write_bytes(b"no FITS")
    shutil.copy(night.directory / "Green/kpf_215921.fits", tmp_path / "plain.fits")
    with pytest.raises(TelemetryError, match=what):
        open_history(f"l0://{tmp_path / what}")


def test_an_l0_that_was_made_without_a_history_is_none(found, make):
    with pytest.raises(TelemetryError, match="made without telemetry"):
        open_history(f"l0://{make(found).path}")


def test_a_url_without_a_path_is_a_usage_error():
    with pytest.raises(ConfigurationError, match=r"l0://L0\.fits"):
        open_history("l0://")


BEGIN = 1713772832.886179
TIMES = st.integers(-100_000_000, 40_000_000).map(lambda us: BEGIN + us / 1e6)
TEXTS = st.text(max_size=10) | st.sampled_from(["1.5", "-2", "2024-04-22T08:00:33.5", "2024-04-22T07:55:00.25", "x" * 100, "end  "])
NAMES = ("A", "B", "BEGIN", "END", "OPEN")
HISTORIES = st.fixed_dictionaries({f"svc.{name}": st.dictionaries(TIMES, TEXTS, max_size=6) for name in NAMES})


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(HISTORIES)
def test_whatever_a_history_holds_its_replay_gives_the_same_cards(kpf, night, make, tmp_path, samples):
    def keyword(card, source, **facts):
        return TelemetryKeyword(card=card, source=source, unit="", comment="", **({"type": "str"} | facts))

    rule = replace(
        kpf.exposure,
        begin=replace(kpf.exposure.begin, source="svc.BEGIN"),
        end=replace(kpf.exposure.end, source="svc.END"),
        triggered="",
        durations=(),
    )
    snapshots = (
        Snapshot(
            moment="begin", offset=10**8, keywords=(keyword("AT", "svc.A", must_refresh="svc.B"), keyword("BT", "svc.B", type="float"))
        ),
        Snapshot(moment="middle", offset=0, keywords=(keyword("AM", "svc.A", type="float", during="mean"),)),
        Snapshot(moment="end", offset=10**8, keywords=(keyword("AL", "svc.A", during="last"), keyword("BF", "svc.B", during="first"))),
        Snapshot(moment="shutter", offset=0, keywords=(keyword("BS", "svc.B"),), event=Event(source="svc.OPEN", form="iso")),
    )
    instrument = replace(kpf, exposure=rule, snapshots=snapshots, table=())
    found = find_night(instrument, night.directory, night.frames[0])
    out = tmp_path / os.urandom(8).hex()
    first = make(found, Memory(samples), out=out / "first")
    again = make(found, RecordedHistory(first.path), out=out / "again")
    assert primary(again.path) == primary(first.path)
    assert telemetry(again.path) == telemetry(first.path)
    assert again.plan.findings == first.plan.findings
