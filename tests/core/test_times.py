"""Times: who is believed, and what is said of those who do not fit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory import SCALES

from assembler.core.candidates import SERVICE, Candidate, read_candidate
from assembler.core.exposure import Hdu, SubFits
from assembler.core.instants import SECOND, parse_iso
from assembler.core.instrument import ExposureRule, Origin, OriginTimes, ServiceTime
from assembler.core.times import reconcile, service_moments, time_cards

T0 = parse_iso("2024-04-22T08:00:32.886179")
RULE = ExposureRule(
    begin=ServiceTime(source="expose.BEGIN", card="STARTIME", comment=""),
    end=ServiceTime(source="expose.END", card="ENDTIME", comment=""),
    settling=2 * SECOND,
    triggered="",
    trust=("green", "red", "meter"),
)


def file(name: str, begin: float | None, end: float | None, tolerance: float = 0.1) -> Candidate:
    """Return a candidate with times in seconds from T0."""
    at = [None if t is None else T0 + int(t * SECOND) for t in (begin, end)]
    return Candidate(source=name, origin=name, begin=at[0], end=at[1], tolerance=int(tolerance * SECOND))


def service(begin: float | None, end: float | None) -> Candidate:
    candidate = file("", begin, end)
    return Candidate(source=SERVICE, origin="", begin=candidate.begin, end=candidate.end)


def decided(told: Candidate | None, *files: Candidate) -> tuple[float | None, float | None, list[str]]:
    times, findings = reconcile(RULE, told, files, SCALES)
    begin, end = (None if t is None else (t - T0) / SECOND for t in (times.begin, times.end))
    return begin, end, [f.code for f in findings if f.severity != "info"]


def test_the_exposure_service_rules():
    assert decided(service(0.01, 600.01), file("green", 0, 600)) == (0.01, 600.01, [])


def test_a_service_that_still_holds_the_previous_exposure_gives_way_to_the_files():
    assert decided(service(-700, -100), file("red", 0.02, 600), file("green", 0, 600)) == (0, 600, ["service-stale"])


def test_a_service_that_has_the_new_begin_and_the_old_end_keeps_the_begin():
    assert decided(service(0.01, -60), file("green", 0, 600)) == (0.01, 600, ["service-stale"])


def test_a_service_that_tells_the_next_begin_already_gives_way():
    assert decided(service(660, 600), file("green", 0, 600)) == (0, 600, ["service-ahead"])


def test_one_camera_that_is_ten_minutes_late_does_not_make_the_service_stale():
    assert decided(service(0, 600.068), file("meter", 598.9, 601, 2)) == (0, 600.068, ["time-residual"])


def test_an_exposure_of_no_length_is_not_stale():
    assert decided(service(0.02, 0.02), file("green", 0, 0)) == (0.02, 0.02, [])


def test_without_a_service_the_most_trusted_file_rules():
    assert decided(None, file("meter", -0.4, 601, 2), file("red", 0, 600), file("guide", -1, 602, 3)) == (0, 600, [])


def test_a_file_whose_end_is_before_its_begin_is_not_trusted():
    assert decided(None, file("green", 600, 0), file("red", 0, 600))[:2] == (0, 600)


def test_nobody_tells():
    assert decided(None, file("green", None, None)) == (None, None, ["no-times"])


def test_the_reverse_is_said():
    assert "time-reversed" in decided(None, file("green", 600, 0))[2]


SECONDS = st.one_of(st.none(), st.integers(-2000, 2000))
FILES = st.lists(st.tuples(st.sampled_from(["green", "red", "meter", "guide"]), SECONDS, SECONDS), unique_by=lambda f: f[0], max_size=4)


@given(FILES, st.one_of(st.none(), st.tuples(SECONDS, SECONDS)), st.randoms(use_true_random=False))
def test_the_order_of_the_files_does_not_matter(files, told, random):
    candidates = [file(*f) for f in files]
    shuffled = list(candidates)
    random.shuffle(shuffled)
    asked = service(*told) if told else None
    assert reconcile(RULE, asked, candidates, SCALES) == reconcile(RULE, asked, shuffled, SCALES)


@given(FILES, st.one_of(st.none(), st.tuples(SECONDS, SECONDS)))
def test_begin_middle_and_end_are_in_order_or_it_is_said(files, told):
    times, findings = reconcile(RULE, service(*told) if told else None, [file(*f) for f in files], SCALES)
    codes = {f.code for f in findings}
    if times.begin is None:
        assert "no-times" in codes
    elif times.end is not None:
        assert times.begin <= times.middle <= times.end or "time-reversed" in codes
    assert all(len(card) == 80 for card in time_cards(times))


def test_the_service_is_asked_as_of_the_files_end_plus_the_settling_time():
    settled, earlier = service_moments(RULE, [file("red", 0, 601), file("green", 0, 600)])
    assert (settled - T0, earlier - T0) == (602 * SECOND, 600 * SECOND + SECOND // 10)
    assert service_moments(RULE, [file("green", None, None)]) is None


def origin(**times: object) -> Origin:
    facts = {"begin": "BEGIN", "end": "", "elapsed": "", "form": "iso", "elapsed_unit": SECOND, "tolerance": 0} | times
    return Origin(
        name="cam", prefix="CM", flag="CAM", file_card="CAMFN", files="*", match="frame", frame="", triggered="",
        extensions=(), amplifiers=(), amplifier_cards=(), renames={}, times=OriginTimes(**facts),
    )  # fmt: skip


def sub(*cards: str) -> SubFits:
    hdu = Hdu(index=0, images=tuple(c.ljust(80) for c in cards), offset=2880, length=0, header_sum=0)
    return SubFits(path="/night/cam.fits", compressed=False, hdus=(hdu,))


@pytest.mark.parametrize(
    ("cards", "times", "begin", "elapsed"),
    [
        (["BEGIN   = '2024-04-22T08:00:32.886179'", "EXPTIME = 94.975"], {"elapsed": "EXPTIME"}, T0, 94_975_000_000),
        (["BEGIN   = '2024-04-22T08:00:32.886179'", "EXPTIME = 250"], {"elapsed": "EXPTIME", "elapsed_unit": 10**6}, T0, 250_000_000),
        (["BEGIN   = 5.686292021364E+04", "FINISH  = 56862.9202148"], {"end": "FINISH", "form": "mjd"}, 1406239506458496000, 100_224_000),
    ],
)
def test_begin_and_end_are_read_with_their_form_and_unit(cards, times, begin, elapsed):
    candidate, findings = read_candidate(origin(**times), sub(*cards), SCALES)
    assert not findings
    assert candidate.begin == begin
    assert candidate.end - candidate.begin == elapsed


def test_what_is_no_time_is_said_and_not_believed():
    candidate, (finding,) = read_candidate(origin(), sub("BEGIN   = 'Tuesday'"), SCALES)
    assert candidate.begin is None
    assert finding.code == "time-unreadable"
    assert "/night/cam.fits" in finding.message
