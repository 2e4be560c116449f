"""Snapshots: typed values, nothing invented, and numbers that agree with numpy."""

import math
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from assembler.core.cards import is_value_text, value_of
from assembler.core.instants import unix_seconds
from assembler.core.instrument import Event, ExposureRule, Instrument, Snapshot, TelemetryKeyword
from assembler.core.samples import Aggregate, Answers, Sample, aggregate, number_of
from assembler.core.snapshots import field_of, number_text, snapshot_cards
from assembler.core.tables import read_table
from assembler.core.telemetry import recorded, telemetry_table


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


def test_numbers_of_more_samples_than_are_taken_at_once_agree_too():
    values = np.random.default_rng(1).normal(1e6, 3.0, 10_000)
    told = aggregate((float(i), repr(float(v))) for i, v in enumerate(values))
    assert told.samples == 10_000
    assert told.average == pytest.approx(values.mean(), rel=1e-13)
    assert told.stddev == pytest.approx(values.std(), rel=1e-9)
    assert (told.minimum, told.maximum, told.first.time, told.last.time) == (values.min(), values.max(), 0.0, 9999.0)


@given(st.lists(st.sampled_from(["1", "2.5", "-3e2", "Off", "nan", "1_0", "9" * 41, "٣", "inf", ""]), max_size=8))
def test_a_number_counts_among_others_as_it_does_alone(values):
    told = aggregate([(0.0, v) for v in values])
    numbers = [n for v in values if (n := number_of(v)) is not None]
    assert (told.minimum, told.maximum) == ((min(numbers), max(numbers)) if numbers else (None, None))


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


def written(one: TelemetryKeyword, told: Answers) -> tuple[object, list[str]]:
    """Return the value of a keyword's card, None where there is no card, and the codes of the findings."""
    cards, findings = snapshot_cards(instrument(snapshot("end", one)), told)
    found = [fits.Card.fromstring(c).value for c in cards if c.startswith(f"{one.card:8}=")]
    return (found[0] if found else None), [f.code for f in findings]


@pytest.mark.parametrize(
    ("facts", "value", "codes"),
    [
        ({}, None, ["not-available"]),
        ({"required": False}, None, ["optional-not-available"]),
        ({"default": "7"}, 7, ["default-used"]),
        ({"missing": "undefined"}, fits.card.UNDEFINED, ["not-available"]),
    ],
)
def test_what_is_missing_is_written_as_the_yaml_says_and_never_invented(facts, value, codes):
    assert written(keyword("N", form="int", **facts), answers()) == (value, codes)


def test_a_default_does_not_stand_in_for_a_history_that_did_not_answer():
    one = keyword("N", form="int", default="7")
    assert written(one, Answers(instants={"end": 13}, failure="db: away")) == (None, ["history-unavailable"])
    assert written(one, Answers(instants={"end": 13})) == (None, ["no-history"])


@pytest.mark.parametrize(
    ("text", "facts", "value", "codes"),
    [
        ("1250", {"scale": "0.001"}, 1.25, []),
        ("0.1", {"scale": "3"}, 0.3, []),
        ("2.71828", {"format": "%.2f"}, 2.72, []),
        ("Off", {"scale": "2"}, fits.card.UNDEFINED, ["type-differs"]),
        ("300", {"low": 0.0, "high": 100.0}, 300.0, ["out-of-range"]),
        ("300", {"low": 0.0, "high": 100.0, "scale": "0.01"}, 3.0, []),
        ("-1", {"low": 0.0}, -1.0, ["out-of-range"]),
    ],
)
def test_a_number_is_scaled_formatted_and_held_against_its_range(text, facts, value, codes):
    assert written(keyword("N", form="float", **facts), answers(N=text)) == (value, codes)


@given(st.decimals(-(10**9), 10**9, places=4), st.sampled_from(["0.001", "1000", "0.1", "3"]))
def test_scaling_is_exact(number, scale):
    assert Decimal(number_text(str(number), "float", scale)) == number * Decimal(scale)


@pytest.mark.parametrize(("during", "value"), [("first", 3.0), ("last", 2.0), ("min", 1.0), ("max", 3.0), ("mean", 2.0)])
def test_a_value_over_the_exposure_is_that_of_its_samples(during, value):
    over = aggregate([(11.0, "3.0"), (12.0, "1.0"), (12.5, "2.0")])
    told = replace(answers(N="9.0"), aggregates={"svc.N": over})
    assert written(keyword("N", form="float", during=during), told) == (value, [])


def test_without_a_sample_over_the_exposure_it_is_the_value_with_which_it_began():
    assert written(keyword("N", form="float", during="max"), answers(N="9.0")) == (9.0, [])


def at(seconds: float, **more: object) -> Answers:
    """Return answers with one value, of 100 s after 1970, asked for at an instant."""
    sample = {"svc.N": Sample(time=100.0, value="here"), "svc.FIELD": Sample(time=1.0, value="M31")}
    return Answers(instants={"end": int(seconds * 1e9)}, values={"end": sample}, asked=True, **more)


@pytest.mark.parametrize(("asked", "codes"), [(160.0, []), (160.001, ["stale"])])
def test_a_value_that_is_too_old_is_written_and_said(asked, codes):
    assert written(keyword("N", max_age=60 * 10**9), at(asked)) == ("here", codes)


@pytest.mark.parametrize(
    ("rule", "previous", "before", "codes"),
    [
        ("always", 101, {}, ["not-refreshed"]),
        ("always", 100, {}, []),
        ("always", None, {}, []),
        ("svc.FIELD", 101, {"svc.FIELD": Sample(time=1.0, value="M31")}, []),
        ("svc.FIELD", 101, {"svc.FIELD": Sample(time=0.5, value="M33")}, ["not-refreshed"]),
        ("svc.FIELD", 101, {}, []),
    ],
)
def test_what_has_to_change_between_exposures_and_did_not_is_said(rule, previous, before, codes):
    told = at(200.0, previous=previous and previous * 10**9, before=before)
    assert written(keyword("N", must_refresh=rule), told) == ("here", codes)


@pytest.mark.parametrize(
    ("facts", "codes"),
    [
        ({"suspect": ("here", "None")}, ["suspect-value"]),
        ({"suspect": ("None",)}, []),
        ({"suspect": ("here",), "suspect_when": {"svc.FIELD": ("M31",)}}, ["suspect-value"]),
        ({"suspect": ("here",), "suspect_when": {"svc.FIELD": ("M33",)}}, []),
        ({"suspect": ("here",), "suspect_when": {"svc.NONE": ("M33",)}}, []),
    ],
)
def test_a_word_for_not_knowing_is_said_where_it_should_be_known(facts, codes):
    assert written(keyword("N", **facts), at(200.0)) == ("here", codes)


TIMES = st.floats(-1e300, 4e9) | st.sampled_from([float("-inf"), 0.0, 1713772832.9861791])
VALUES = st.text(max_size=12) | st.from_regex(r"[0-9]{1,3}\.[0-9]{1,4}", fullmatch=True) | st.just("x" * 5000) | st.just("blanks  ")
SAMPLES = st.dictionaries(TIMES, VALUES, max_size=8)
INSTANTS = st.lists(st.integers(0, 2 * 10**18), min_size=4, max_size=4, unique=True).map(sorted)


@given(st.fixed_dictionaries({"svc.A": SAMPLES, "svc.B": SAMPLES, "svc.C": SAMPLES}), INSTANTS)
def test_telemetry_that_was_recorded_gives_the_same_cards(history, moments):
    """The table alone answers as the history did, whatever the history holds."""
    instants = dict(zip(("begin", "shutter", "middle", "end"), moments, strict=True))
    shutter = replace(snapshot("shutter", keyword("C1", "svc.C")), event=Event(source="svc.B", form="broadcast"))
    one = instrument(
        snapshot("begin", keyword("A1", "svc.A"), keyword("B1", "svc.B", form="float", during="last")),
        snapshot("middle", keyword("A2", "svc.A", form="float", max_age=10**12), keyword("B2", "svc.B", during="first")),
        snapshot("end", keyword("A3", "svc.A", form="float", during="mean"), keyword("C2", "svc.C", form="int", default="3")),
        shutter,
    )

    def as_of(samples, instant):
        times = [t for t in samples if t <= unix_seconds(instant)]
        return Sample(time=max(times), value=samples[max(times)]) if times else None

    def ask(samples, aggregates, further):
        values = {m: {n: s for n, told in samples.items() if (s := as_of(told, i))} for m, i in instants.items()}
        return Answers(instants=instants, values=values, aggregates=aggregates, further=further, asked=True)

    begin, end = unix_seconds(instants["begin"]), unix_seconds(instants["end"])
    within = {n: [(t, v) for t, v in sorted(s.items()) if begin <= t <= end] for n, s in history.items()}
    further = {"svc.B": (s,)} if (s := as_of(history["svc.B"], instants["middle"])) else {}
    first = ask(history, {n: aggregate(pairs) for n, pairs in within.items() if pairs}, further)
    table = telemetry_table(one, first)
    kept = recorded(read_table(table.cards(), table.data()), instants)
    samples = {n: {s.time: s.value for s in told} for n, told in kept.samples.items()}
    edges = {n: [s for s in kept.samples[n] if begin <= s.time <= end] for n in kept.samples}
    numbers = {n: replace(a, first=edges[n][0], last=edges[n][-1]) if edges[n] else a for n, a in kept.aggregates.items()}
    assert snapshot_cards(one, ask(samples, numbers, further))[0] == snapshot_cards(one, first)[0]
