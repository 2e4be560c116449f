"""Snapshots: typed values, nothing invented, and numbers that agree with numpy."""

import math
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from assembler.core.cards import is_value_text, value_of
from assembler.core.instrument import ExposureRule, Instrument, Snapshot, TelemetryKeyword
from assembler.core.snapshots import Aggregate, Answers, Sample, aggregate, field_of, snapshot_cards, telemetry_table


def instrument(*snapshots: Snapshot, table: tuple[TelemetryKeyword, ...] = ()) -> Instrument:
    rule = ExposureRule(begin=None, end=None, settling=0, triggered="", trust=())
    facts = {"name": "test", "filename": "x.fits", "output": ".", "missing": "omit", "shared": frozenset(), "origins": ()}
    return Instrument(**facts, exposure=rule, snapshots=snapshots, table=table)


def keyword(card: str, source: str = "", form: str = "str", **more: object) -> TelemetryKeyword:
    return TelemetryKeyword(card=card, source=source or f"svc.{card}", type=form, unit="", comment="", **more)


def snapshot(moment: str, *keywords: TelemetryKeyword) -> Snapshot:
    return Snapshot(moment=moment, offset=0, keywords=keywords)


def answers(**values: str) -> Answers:
    told = {f"svc.{name}": Sample(time=10.0, value=value) for name, value in values.items()}
    return Answers(instants={"begin": 11, "middle": 12, "end": 13}, values=dict.fromkeys(("begin", "middle", "end"), told), asked=True)


@given(st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=50))
def test_numbers_agree_with_numpy(values):
    told = aggregate([(0.0, repr(v)) for v in values])
    assert told.samples == len(values)
    assert told.average == pytest.approx(np.mean(values), rel=1e-9, abs=1e-6)
    assert told.stddev == pytest.approx(np.std(values), rel=1e-6, abs=1e-3)
    assert (told.minimum, told.maximum) == (min(values), max(values))
    assert told.minimum <= told.average <= told.maximum


@given(st.lists(st.text(max_size=8), max_size=10))
def test_any_text_is_counted_and_never_becomes_a_number_by_chance(values):
    told = aggregate([(0.0, v) for v in values])
    assert told.samples == len(values)
    assert told.average is None or math.isfinite(told.average)


def test_no_sample_is_no_number():
    told = aggregate([(float(i), v) for i, v in enumerate(["nan", "inf", "1e999", "Off", ""])])
    assert told == Aggregate(samples=5, first=Sample(time=0.0, value="nan"), last=Sample(time=4.0, value=""))


@given(st.text(max_size=60), st.sampled_from(["str", "int", "float", "bool"]))
def test_a_value_is_of_the_declared_type_or_refused(text, form):
    told = field_of(text, form)
    if told is not None:
        assert is_value_text(told)
        assert isinstance(value_of(told), {"str": str, "int": int, "float": float, "bool": bool}[form])


@pytest.mark.parametrize(
    ("text", "form", "field"),
    [
        ("9.513e-06", "float", "9.513E-06"),
        ("0.5879529999999999", "float", "0.5879529999999999"),
        ("5", "float", "5.0"),
        ("1152021", "int", "1152021"),
        ("0007", "int", "0007"),
        ("true", "bool", "T"),
        ("89113e6", "str", "'89113e6 '"),
        ("", "str", "'        '"),
    ],
)
def test_digits_go_through_as_they_were_broadcast(text, form, field):
    assert field_of(text, form).strip() == field


@pytest.mark.parametrize(
    ("text", "form"), [("Off", "float"), ("1.5", "int"), ("nan", "float"), ("yes", "bool"), ("", "float"), ("1_000", "int")]
)
def test_a_value_that_does_not_fit_is_an_undefined_card_and_a_finding(text, form):
    cards, findings = snapshot_cards(instrument(snapshot("begin", keyword("KEY", form=form))), answers(KEY=text))
    assert "KEY     =" in [c.rstrip() for c in cards]
    assert [f.code for f in findings] == ["type-differs"]


def test_what_is_not_available_is_a_comment_inside_its_fence_and_a_finding():
    cards, findings = snapshot_cards(instrument(snapshot("begin", keyword("HEART12", "mon.heart_12"))), answers())
    assert cards[-1].rstrip() == "COMMENT Not available: HEART12 (mon.heart_12)"
    assert [(f.code, f.keyword) for f in findings] == [("not-available", "HEART12")]


def test_without_a_history_that_is_said_once():
    _, findings = snapshot_cards(instrument(snapshot("begin", keyword("A"), keyword("B"))), Answers(instants={"begin": 11}))
    assert [f.code for f in findings] == ["no-history"]


@pytest.mark.parametrize(("prefer", "fence"), [(False, 0), (True, 1)])
def test_a_keyword_of_two_snapshots_is_written_once(prefer, fence):
    two = instrument(snapshot("begin", keyword("SAME", "svc.ONE")), snapshot("end", keyword("SAME", "svc.TWO", prefer=prefer)))
    cards, _ = snapshot_cards(two, answers(ONE="first", TWO="second"))
    (written,) = [c for c in cards if c.startswith("SAME")]
    assert fits.Card.fromstring(written).value == ("first", "second")[fence]


def test_a_value_that_a_header_cannot_hold_is_mended_and_said():
    cards, findings = snapshot_cards(instrument(snapshot("begin", keyword("TEMP"))), answers(TEMP="21 °C\n\x1b[31m"))
    assert fits.Card.fromstring(cards[-1]).value == "21 ?C??[31m"
    assert [f.code for f in findings] == ["text-mended"]


@pytest.mark.parametrize("time", [-1e300, float("nan"), float("-inf")])
def test_a_history_with_times_of_no_age_is_told_without_them(time):
    told = Answers(values={"begin": {"svc.A": Sample(time=time, value="x")}}, asked=True)
    table = telemetry_table(instrument(snapshot("begin", keyword("A"))), told)
    assert table.rows[0][8:10] == ("x", "")


def test_a_value_of_a_megabyte_takes_no_more_room_than_it_may():
    told = answers(BIG="x" * 10**6)
    one = instrument(snapshot("begin", keyword("BIG")))
    assert sum(telemetry_table(one, told).widths()) < 20_000
    assert len(snapshot_cards(one, told)[0]) < 80


def test_text_has_no_numbers_even_where_it_looks_like_one():
    told = replace(answers(MD5="7046E41"), aggregates={"svc.MD5": aggregate([(1.0, "7046E41")])})
    table = telemetry_table(instrument(snapshot("begin", keyword("MD5"))), told)
    assert table.rows[0][1:6] == (None, None, None, None, 1)


def test_the_table_falls_back_to_the_last_value_before_the_exposure():
    table = telemetry_table(instrument(snapshot("begin", keyword("TEMP", form="float"))), answers(TEMP="21.5"))
    row = dict(zip([c.name for c in table.columns], table.rows[0], strict=True))
    assert (row["average"], row["stddev"], row["min"], row["max"], row["samples"]) == (21.5, 0.0, 21.5, 21.5, 0)
    assert (row["begin"], row["begin_time"], row["cards"]) == ("21.5", "1970-01-01T00:00:10.000000", "TEMP@begin")
