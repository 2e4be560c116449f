"""Corrections: the L0 has the right value and says so, the ledger has the card as it was, and twice is as once."""

from dataclasses import replace
from pathlib import Path

import memory
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assembler.core.candidates import SERVICE, Candidate, read_candidate
from assembler.core.cards import Record, keyword_of, read_record, write_card
from assembler.core.corrections import (
    Correction,
    applying,
    change_findings,
    correct_answers,
    correct_exposure,
    correct_service,
    correction_cards,
)
from assembler.core.instants import parse_iso
from assembler.core.ledger import ledger_table, read_ledger
from assembler.core.plan import from_json, to_json
from assembler.core.samples import Answers, Sample
from assembler.core.tables import read_table
from assembler.errors import ConfigurationError

FRAME = 215921
GOLDEN = Path(__file__).parent / "golden" / "corrections.txt"


def correction(**given) -> Correction:
    line = given.pop("line", 2)
    return Correction(**{"file": "kpf.yaml", "place": f"c/kpf.yaml:{line}", "reason": "never set", "frames": (FRAME, FRAME), **given})


def exptime(**given) -> Correction:
    return correction(**{"origin": "green", "keyword": "EXPTIME", "value": 30.068, **given})


@pytest.fixture(scope="module")
def subs():
    return memory.kpf_subs()


@pytest.fixture
def correct(kpf, subs):
    """Return what corrects the exposure of the fixtures."""
    return lambda *corrections, subs=subs: correct_exposure(kpf, subs, (), None, corrections)


@pytest.fixture
def planned(kpf, correct):
    """Return what plans the exposure of the fixtures, corrected."""

    def make(*corrections, **given):
        corrected = correct(*corrections, **given)
        answers = memory.answers_for(kpf, parse_iso("2024-04-22T08:00:32.886179"), parse_iso("2024-04-22T08:01:02.9542"))
        answers, changed, unused = correct_answers(kpf, answers, corrections)
        changes = (*corrected.changes, *changed)
        told = (*change_findings(changes), *corrected.findings, *unused)
        return memory.plan_of(kpf, corrected.exposure, answers, changes=changes, told=told)

    return make


def card(cards, keyword: str) -> str:
    (image,) = [c for c in cards if keyword_of(c) == keyword]
    return image.rstrip()


def extended(sub, *images: str, hdu: int = 0):
    """Return a sub-FITS with more cards in an HDU."""
    hdus = list(sub.hdus)
    hdus[hdu] = replace(hdus[hdu], images=(*hdus[hdu].images, *(i.ljust(80) for i in images)))
    return replace(sub, hdus=tuple(hdus))


class TestWhichApply:
    @pytest.mark.parametrize(
        ("given", "frame", "begin", "meant"),
        [
            ({"frames": (5, 5)}, 5, None, True),
            ({"frames": (5, 9)}, 9, None, True),
            ({"frames": (5, 9)}, 10, None, False),
            ({"frames": (5, 9)}, None, 1, False),
            ({"frames": None, "since": 10}, None, 10, True),
            ({"frames": None, "since": 10}, None, 9, False),
            ({"frames": None, "until": 10}, None, 10, False),
            ({"frames": None, "until": 10}, 1, 9, True),
            ({"frames": None, "until": 10}, 1, None, False),
            ({"frames": (5, 9), "since": 10, "until": 20}, 6, 15, True),
            ({"frames": (5, 9), "since": 10, "until": 20}, 4, 15, False),
            ({"frames": (5, 9), "since": 10, "until": 20}, 6, 20, False),
        ],
    )
    def test_frames_are_inclusive_and_until_is_not(self, given, frame, begin, meant):
        assert bool(applying([exptime(**given)], frame, begin)) == meant


class TestCards:
    def test_a_corrected_card_is_told_everywhere_and_kept_as_it_was(self, planned):
        plan = planned(exptime(was=(0,)))
        primary = plan.hdus[0].cards
        assert card(primary, "GREXPTI") == "GREXPTI =               30.068 / exposure time in msec Kwd green EXPTIME"
        assert card(primary, "RDEXPTI").split("/")[0].split() == ["RDEXPTI", "=", "0"]
        (row,) = [r for r in plan.ledger if r.correction]
        assert (row.origin, row.card.rstrip(), row.correction, row.keyword) == (
            "green",
            "EXPTIME =                    0 / exposure time in msec",
            "30.068",
            "GREXPTI",
        )
        (found,) = [f for f in plan.findings if f.code.startswith("correct")]
        told = "green HDU 0 EXPTIME: 0 is now 30.068 (kpf.yaml: never set)"
        assert (found.code, found.origin, found.keyword, found.message) == ("corrected", "green", "EXPTIME", told)
        assert [c.rstrip() for c in primary if c.startswith("HISTORY Corrected")] == [f"HISTORY Corrected {told}"]

    def test_the_ledger_gives_back_every_card_as_it_was_and_goes_through_table_and_json(self, planned, subs):
        plan = planned(
            exptime(), correction(origin="ca_hk", keyword="TEMPDET", value=None), correction(origin="red", keyword="ACF", value="x")
        )
        assert [r.card for r in plan.ledger] == [c for s in subs.values() for h in s.hdus for c in h.images]
        table = ledger_table(plan.ledger)
        assert read_ledger(read_table(table.cards(), table.data())) == plan.ledger
        assert from_json(to_json(plan)) == plan
        assert sorted(r.correction for r in plan.ledger if r.correction) == ["'x'", "30.068", "undefined"]

    def test_without_corrections_nothing_is_said_of_them(self, planned):
        plan = planned()
        assert not any("Corrected" in c for c in plan.hdus[0].cards)
        assert not any(r.correction for r in plan.ledger)

    def test_in_an_extension_only_the_corrected_card_is_written_anew(self, planned, subs):
        given = dict(subs)
        given["ca_hk"] = extended(subs["ca_hk"], "READY   as it is", "GAIN    = 1.5D+00/unlike the fixed format")
        before = {h.name: h.cards for h in planned(subs=given).hdus}["CA_HK"]
        after = {h.name: h.cards for h in planned(correction(origin="ca_hk", keyword="GAIN", value=2.5), subs=given).hdus}["CA_HK"]
        changed = [(a.rstrip(), b.rstrip()) for a, b in zip(before, after, strict=True) if a != b]
        assert changed == [
            ("GAIN    = 1.5D+00/unlike the fixed format", "GAIN    =                  2.5 / unlike the fixed format"),
        ]

    def test_an_extension_has_no_date_without_a_value_but_says_so(self, planned, subs):
        given = {**subs, "ca_hk": extended(subs["ca_hk"], "DATE-OBS= '2024-04-22' / day")}
        plan = planned(correction(origin="ca_hk", keyword="DATE-OBS", value=None), subs=given)
        assert "COMMENT DATE-OBS =  / day".ljust(80) in {h.name: h.cards for h in plan.hdus}["CA_HK"]
        assert [(r.keyword, r.correction) for r in plan.ledger if r.card.startswith("DATE-OBS") and r.origin == "ca_hk"] == [
            ("COMMENT", "undefined")
        ]
        assert [f.code for f in plan.findings if f.keyword == "DATE-OBS" and f.origin == "ca_hk"] == ["corrected"]

    def test_a_long_string_is_corrected_as_a_whole(self, planned, subs):
        given = dict(subs)
        given["green"] = extended(subs["green"], "PURPOSE = 'to see what&'", "CONTINUE  ' there is' / why")
        plan = planned(correction(origin="green", keyword="PURPOSE", was=("to see what there is",), value="focus"), subs=given)
        assert card(plan.hdus[0].cards, "GRPURPO") == "GRPURPO = 'focus   '           / why Kwd green PURPOSE"
        assert [r.correction for r in plan.ledger if r.origin == "green" and r.keyword == "GRPURPO"] == ["'focus'", ""]

    def test_an_amplifier_card_is_corrected_where_it_went(self, planned):
        plan = planned(correction(origin="green", keyword="GAIN02", value=5.5))
        cards = {h.name: h.cards for h in plan.hdus}["GREEN_AMP1"]
        assert read_record(0, card(cards, "GAIN02").ljust(80)).value == 5.5

    def test_shared_cards_agree_once_they_are_corrected(self, kpf, correct, subs):
        shared = replace(kpf, shared=frozenset({"TM_ZONE"}))
        given = dict(subs)
        green = subs["green"].hdus[0]
        images = tuple(i.replace("GMT", "UT ") if i.startswith("TM_ZONE") else i for i in green.images)
        given["green"] = replace(subs["green"], hdus=(replace(green, images=images), *subs["green"].hdus[1:]))
        corrected = correct(correction(origin="green", keyword="TM_ZONE", value="GMT"), subs=given)
        plan = memory.plan_of(shared, corrected.exposure)
        assert card(plan.hdus[0].cards, "TM_ZONE").startswith("TM_ZONE = 'GMT     '")

    def test_a_forbidden_card_is_known_under_either_keyword(self, planned, subs):
        given = dict(subs)
        given["green"] = extended(subs["green"], "ActualX = NaN")
        for keyword in ("ActualX", "ACTUALX"):
            plan = planned(correction(origin="green", keyword=keyword, was=(None,), value=3), subs=given)
            assert card(plan.hdus[0].cards, "GRACTUA") == "GRACTUA =                    3 / Kwd green ActualX"

    def test_times_and_frame_numbers_follow(self, kpf, correct, subs):
        given = {**subs, "red": memory.kpf_subs(1)["red"]}
        frame = given["red"].hdus[0].value("FRAMENO")
        begin = correction(origin="red", keyword="DATE-BEG", value="2024-04-22T08:00:33")
        corrected = correct(correction(origin="red", keyword="FRAMENO", was=(frame,), value=FRAME), begin, subs=given)
        assert corrected.exposure.missing == ()
        red = {o.name: s for o, s in corrected.exposure.attached}["red"]
        assert read_candidate(kpf.origin("red"), red, memory.SCALES)[0].begin == parse_iso("2024-04-22T08:00:33")

    def test_what_is_not_attached_is_not_told(self, correct, subs):
        given = {**subs, "red": memory.kpf_subs(1)["red"]}
        corrected = correct(
            correction(origin="red", keyword="EXPTIME", value=1), correction(origin="red", keyword="NOSUCH", value=1), subs=given
        )
        assert (corrected.changes, corrected.findings) == ((), ())


class TestUnused:
    @pytest.mark.parametrize(
        ("given", "told"),
        [
            ({"keyword": "NOSUCH"}, ["/data/2024apr21/Green/kpf_215921.fits has no such card"]),
            ({"hdu": 9}, ["has no such HDU"]),
            ({"frames": (1, 10**6), "keyword": "NOSUCH"}, ["has no such card"]),
            ({"was": (5,)}, ["green HDU 0 EXPTIME: it is 0; nothing was corrected (kpf.yaml: never set)"]),
            ({"was": (False,)}, ["it is 0"]),
            ({"was": (None,)}, ["it is 0"]),
            ({"was": (5,), "frames": (1, 10**6)}, []),
            ({"was": (5,), "value": 0}, []),
            ({"was": (0.0,)}, []),
            ({"frames": None, "since": 0, "keyword": "NOSUCH"}, []),
            ({"value": 0}, []),
        ],
    )
    def test_only_who_names_the_exposure_is_told(self, correct, given, told):
        findings = correct(exptime(**given)).findings
        assert {f.code for f in findings} <= {"correction-unused"}
        assert [t for t, f in zip(told, findings, strict=True) if t not in f.message] == []

    def test_a_value_that_is_there_already_changes_nothing(self, correct):
        assert correct(exptime(value=0)).changes == ()
        assert correct(correction(origin="red", keyword="TM_ZONE", value="GMT  ")).changes == ()
        assert [c.new for c in correct(exptime(value=0.0)).changes] == ["0.0"]
        assert [c.new for c in correct(correction(origin="red", keyword="TM_ZONE", value=None)).changes] == ["undefined"]


class TestConflicts:
    def test_two_that_differ_are_an_error_that_names_both(self, correct):
        with pytest.raises(ConfigurationError) as caught:
            correct(exptime(line=2), exptime(line=9, value=31))
        path = "/data/2024apr21/Green/kpf_215921.fits"
        expected = f"c/kpf.yaml:2 and c/kpf.yaml:9 both correct EXPTIME in HDU 0 of {path}, to 30.068 and to 31; expected one of them"
        assert str(caught.value) == expected

    def test_two_that_agree_are_one(self, correct):
        assert len(correct(exptime(), exptime(line=9)).changes) == 1

    def test_two_for_different_values_do_not_meet_and_do_not_chain(self, correct):
        changes = correct(exptime(was=(0,), value=1), exptime(line=9, was=(1,), value=2)).changes
        assert [c.new for c in changes] == ["1"]


KEYWORDS = st.sampled_from(["EXPTIME", "TM_ZONE", "FRAMENO", "DATE-BEG", "SHUTTEN", "NOSUCH"])
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(0, 3), st.floats(0, 3), st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=90)
)
CORRECTIONS = st.builds(
    lambda origin, keyword, value, was: correction(origin=origin, keyword=keyword, value=value, was=was),
    st.sampled_from(["green", "red", "ca_hk"]),
    KEYWORDS,
    VALUES,
    st.one_of(st.just(()), VALUES.map(lambda v: (v,)), st.just((0,)), st.just(("GMT",))),
)


@given(st.lists(CORRECTIONS, max_size=5, unique_by=lambda c: (c.origin, c.keyword)))
def test_applied_to_what_they_were_applied_to_they_change_nothing(kpf, subs, corrections):
    once = correct_exposure(kpf, subs, (), FRAME, corrections)
    kept = {o.name: s for o, s in once.exposure.attached}
    others = {n: s for n, s in subs.items() if n not in kept}
    assert correct_exposure(kpf, {**others, **kept}, (), FRAME, corrections) == once
    for name, sub in kept.items():
        assert [h.images for h in sub.hdus] == [h.images for h in subs[name].hdus]


@given(st.permutations([exptime(), correction(line=5, origin="green", keyword="TM_ZONE", value="UT"), exptime(line=7, was=(1,), value=2)]))
def test_the_order_of_corrections_does_not_matter(kpf, subs, corrections):
    told = correct_exposure(kpf, subs, (), FRAME, corrections)
    assert told == correct_exposure(kpf, subs, (), FRAME, corrections[::-1])


@given(st.lists(CORRECTIONS, max_size=5, unique_by=lambda c: (c.origin, c.keyword)))
def test_once_the_files_themselves_have_the_right_values_nothing_is_left_to_correct(kpf, subs, corrections):
    mended = {}
    for origin, sub in correct_exposure(kpf, subs, (), FRAME, corrections).exposure.attached:
        hdus = [replace(h, corrected={}, images=tuple(i for r in h.records() for i in written(r))) for h in sub.hdus]
        mended[origin.name] = replace(sub, hdus=tuple(hdus))
    assert correct_exposure(kpf, mended, (), FRAME, corrections).changes == ()


def written(record: Record) -> tuple[str, ...]:
    return write_card(record.original, record.text, record.comment) if record.corrected else record.images


class TestTelemetry:
    def told(self, **given) -> Correction:
        return correction(**{"history": "kpfconfig.TARGNAME", "value": "10700", **given})

    def test_the_card_is_corrected_and_the_table_keeps_what_the_history_told(self, planned):
        plan = planned(self.told())
        assert read_record(0, card(plan.hdus[0].cards, "TARGNAME").ljust(80)).value == "10700"
        table = next(h.data for h in plan.hdus if h.name == "TELEMETRY")
        (row,) = [r for r in table.rows if r[0] == "kpfconfig.TARGNAME"]
        assert "10700" not in row
        assert "HISTORY Corrected kpfconfig.TARGNAME: 'T001823' is now '10700' (kpf.yaml: n" in "\n".join(plan.hdus[0].cards)
        assert [(f.origin, f.keyword) for f in plan.findings if f.code == "corrected"] == [("", "TARGNAME")]

    def test_a_keyword_without_a_value_gets_the_corrected_one(self, planned):
        plan = planned(self.told(history="kpfmon.heart_12", value=None), self.told(line=3))
        assert not any("Not available: HEART12" in c for c in plan.hdus[0].cards)
        assert card(plan.hdus[0].cards, "HEART12").startswith("HEART12 =      ")
        assert not any(f.code == "not-available" and f.keyword == "HEART12" for f in plan.findings)
        assert any("kpfmon.heart_12: not available is now undefined" in f.message for f in plan.findings)

    def test_without_any_history_it_is_corrected_all_the_same(self, kpf):
        answers, changes, _ = correct_answers(kpf, Answers(), [self.told()])
        assert answers.corrected == {"TARGNAME": "'10700   '"}
        assert [c.old for c in changes] == ["not available"]

    @pytest.mark.parametrize(
        ("given", "changed", "unused"),
        [
            ({"was": ("T001823",)}, 1, 0),
            ({"was": ("other",)}, 0, 1),
            ({"was": ("other",), "value": "T001823"}, 0, 0),
            ({"was": ("other",), "frames": (1, 10**6)}, 0, 0),
            ({"value": "T001823"}, 0, 0),
            ({"value": 10700}, 1, 0),
        ],
    )
    def test_was_is_asked_of_the_history(self, kpf, given, changed, unused):
        answers = Answers(values={m: {"kpfconfig.TARGNAME": Sample(time=1.0, value="T001823")} for m in ("begin", "middle", "end")})
        once, changes, findings = correct_answers(kpf, answers, [self.told(**given)])
        assert (len(changes), len(findings)) == (changed, unused)
        assert correct_answers(kpf, once, [self.told(**given)]) == (once, changes, findings)

    def test_two_that_differ_and_values_of_another_type_are_errors(self, kpf):
        with pytest.raises(ConfigurationError, match=r"c/kpf.yaml:2 and c/kpf.yaml:9 both correct TARGNAME"):
            correct_answers(kpf, Answers(), [self.told(), self.told(line=9, value="x")])
        with pytest.raises(ConfigurationError, match=r"c/kpf.yaml:2: value: 'high' is not of type float, which AIRMASS has"):
            correct_answers(kpf, Answers(), [self.told(history="dcs1.AIRMASS", value="high")])


def test_history_reads_as_it_did(planned, request):
    """`make golden` renews the file."""
    plan = planned(
        exptime(was=(0,), reason="EXPTIME of the camera is never set"),
        correction(
            line=8, origin="red", keyword="FIRMWARE", value="it's /kroot/rel/default/data/kpfred/ACF/regular-read-red.acf", reason="moved"
        ),
        correction(line=12, origin="ca_hk", keyword="TEMPDET", value=None, reason="sensor was off"),
        correction(line=16, history="kpfconfig.TARGNAME", value="10700", reason="typed in wrong"),
    )
    cards = plan.hdus[0].cards
    first = next(n for n, c in enumerate(cards) if c.startswith("COMMENT Corrected values"))
    text = "\n".join(c.rstrip() for c in cards[first - 1 :]) + "\n"
    if request.config.getoption("--renew-golden"):
        GOLDEN.write_text(text, encoding="ascii")
    assert text == GOLDEN.read_text(encoding="ascii")


def test_nothing_corrected_has_no_history():
    assert correction_cards(()) == []


SERVICE_TIMES = Candidate(source=SERVICE, origin="", begin=parse_iso("2024-04-22T08:00:32.5"), end=parse_iso("2024-04-22T08:01:02.5"))


def test_a_time_of_the_exposure_service_is_corrected_before_it_is_compared(kpf):
    right = correction(history="kpfexpose.ENDTIME", value="2024-04-22T08:01:02.75", was=("2024-04-22T08:01:02.5",))
    service, changes = correct_service(kpf.exposure, SERVICE_TIMES, [right])
    assert (service.begin, service.end) == (SERVICE_TIMES.begin, parse_iso("2024-04-22T08:01:02.75"))
    assert [(c.keyword, c.old, c.new) for c in changes] == [("ENDTIME", "2024-04-22T08:01:02.500000", "2024-04-22T08:01:02.750000")]
    assert correct_service(kpf.exposure, replace(service, begin=service.begin), [replace(right, was=())])[1] == ()
    other = correction(history="kpfexpose.ENDTIME", value="2024-04-22T09:00:00", was=("2024-04-22T08:59:00",))
    assert correct_service(kpf.exposure, SERVICE_TIMES, [other]) == (SERVICE_TIMES, ())
    assert correct_service(kpf.exposure, None, [right]) == (None, ())


def test_a_time_of_the_exposure_service_that_is_none_is_a_configuration_error(kpf):
    with pytest.raises(ConfigurationError, match="YYYY-MM-DD"):
        correct_service(kpf.exposure, SERVICE_TIMES, [correction(history="kpfexpose.ENDTIME", value="noon")])
