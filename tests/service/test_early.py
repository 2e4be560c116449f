"""The plan from telemetry alone: what it says stands in the L0 that is made later, or it says nothing."""

from collections.abc import Callable, Iterator
from pathlib import Path

import kpf_night
import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import Memory

from assembler.core.cards import keyword_of, read_records
from assembler.core.instants import SECOND, format_iso
from assembler.core.plan import Plan
from assembler.errors import ConfigurationError, InputError, TelemetryError
from assembler.instruments import read_instrument
from assembler.service.early import plan_from_telemetry
from assembler.service.finder import find_night
from assembler.service.pipeline import plan_exposure
from assembler.telemetry.load import read_samples

OF_THE_FILE = {"GREENFN", "REDFN", "CA_HKFN", "EXPMETFN", "GUIDEFN", "GREEN", "RED", "CA_HK", "EXPMETER", "GUIDE"}
SETTLING = 2 * SECOND
BEGIN = "s.BEGIN"
END = "s.END"
TINY = """
instrument: tiny
filename: "{date}.{seconds}.fits"
missing: empty
exposure: {begin: {from: s.BEGIN, card: BEGUN}, end: {from: s.END, card: ENDED}, settling: 2 s, trust: [cam]}
origins:
  cam: {prefix: CM, flag: CAM, file: CAMFN, files: "*", extensions: {IMG: 1}, times: {begin: DATE-BEG, end: DATE-END}}
snapshots:
  begin: {keywords: {TEMP: {from: met.TEMP, type: float}}}
  end: {offset: 5 s, keywords: {SKY: {from: met.SKY}}}
"""


class Night:
    """Two exposures with their telemetry in memory, and what would be assembled of them."""

    def __init__(self, directory: Path, kpf) -> None:
        self.kpf = kpf
        self.night = kpf_night.make_night(directory, exposures=2, shape=(4, 4))
        samples: dict[str, dict[float, str]] = {}
        for source, time, value in read_samples(self.night.telemetry):
            samples.setdefault(source, {})[time] = value
        self.history = Memory(samples)
        self.frames = self.night.frames
        self.ends = [round(self.night.exposure(frame).end.timestamp() * 1e6) * 1000 for frame in self.frames]
        self.later = {frame: self._later(frame) for frame in self.frames}

    def _later(self, frame: int) -> Plan:
        found = find_night(self.kpf, self.night.directory, frame)
        return plan_exposure(found, self.history, self.night.directory / "L0", version="test", now=0)

    def early(self, as_of: int, frame: int | None = None) -> Plan:
        return plan_from_telemetry(self.kpf, self.history, self.night.directory / "L0", as_of=as_of, frame=frame, version="test", now=0)


@pytest.fixture(scope="module")
def night(tmp_path_factory, kpf) -> Iterator[Night]:
    return Night(tmp_path_factory.mktemp("early"), kpf)


def check_that_it_stands(early: Plan, later: Plan) -> None:
    """Check that every card and every row of telemetry is in the L0 that is made later, in the order that they have there."""
    there = [card for card in early.hdus[0].cards if keyword_of(card) not in OF_THE_FILE]
    rest = iter(later.hdus[0].cards)
    assert [card for card in there if card not in rest] == []
    tables = [next(h for h in plan.hdus if h.name == "TELEMETRY") for plan in (early, later)]
    assert tables[0] == tables[1]
    assert early.filename == later.filename


def test_every_card_that_telemetry_gives_is_that_of_the_l0(night):
    for frame, end in zip(night.frames, night.ends, strict=True):
        early, later = night.early(end + SETTLING, frame), night.later[frame]
        check_that_it_stands(early, later)
        values = {r.keyword: r.value for r in read_records(early.hdus[0].cards)}
        assert (values["FRAMENO"], values["OFNAME"], values["GREEN"], values["GREENFN"]) == (frame, later.filename, "NO", None)
        assert not [r for r in read_records(early.hdus[0].cards) if "Kwd green" in r.comment]
        assert [h.name for h in early.hdus] == ["PRIMARY", "TELEMETRY", "CARDS", "FINDINGS"]
        missed = {f for f in later.findings if f.code in ("not-available", "optional-not-available", "time-chosen")}
        assert missed <= set(early.findings)
        assert "absent-though-triggered" not in {f.code for f in early.findings}
        assert [f.severity for f in early.findings if f.code == "from-telemetry"] == ["info"]


@given(st.data())
def test_at_any_moment_it_is_refused_or_stands_later(night, data):
    first, last = night.ends
    as_of = data.draw(st.integers(first - 40 * SECOND, last + 90 * SECOND) | st.sampled_from([first, last]).map(lambda e: e + SETTLING))
    try:
        early = night.early(as_of, night.frames[as_of >= last])
    except InputError as error:
        assert "exposure" in str(error)  # noqa: PT017 - whether it is refused depends on the moment
        return
    assert as_of >= first + SETTLING
    check_that_it_stands(early, night.later[night.frames[as_of >= last]])


def history(*told: tuple[str, float, str]) -> Memory:
    samples: dict[str, dict[float, str]] = {}
    for source, time, value in told:
        samples.setdefault(source, {})[time] = value
    return Memory(samples)


@pytest.fixture
def tiny(tmp_path) -> Callable[..., Plan]:
    """Return what plans from telemetry of seconds after an hour of an instrument with one camera."""
    instrument = read_instrument(TINY, "tiny.yaml")

    def make(as_of: float, *told: tuple[str, float, str], at: str = "met.TEMP", frame: int | None = None) -> Plan:
        samples = history(*((source, HOUR + time, value) for source, time, value in told), (at, HOUR, "1.5"))
        return plan_from_telemetry(instrument, samples, tmp_path, as_of=round((HOUR + as_of) * SECOND), frame=frame, version="test", now=0)

    return make


HOUR = 1_713_772_800.0


def iso(seconds: float) -> str:
    return format_iso(round((HOUR + seconds) * SECOND))


@pytest.mark.parametrize(
    ("as_of", "told", "words"),
    [
        (9, [], "s.BEGIN has no value as of 2024-04-22T08:00:09.000000"),
        (9, [(BEGIN, 5, "soon")], "s.BEGIN is 'soon' as of"),
        (12, [(BEGIN, 10, iso(10))], "that began at 2024-04-22T08:00:10.000000 has not ended"),
        (12, [(BEGIN, 1, iso(1)), (END, 4, iso(4)), (BEGIN, 10, iso(10))], "that began at 2024-04-22T08:00:10.000000 has not ended"),
        (30, [(BEGIN, 10, iso(10)), (END, 20, "1970-01-01T00:00:00.5")], "has not ended"),
        (24.9, [(BEGIN, 10, iso(10)), (END, 20, iso(20))], "is settled at 2024-04-22T08:00:25.000000; ask again as of then"),
        (24.9, [(BEGIN, 10, iso(10)), (END, 11, iso(20))], "is settled at 2024-04-22T08:00:25.000000; ask again as of then"),
    ],
)  # fmt: skip
def test_what_is_not_known_yet_is_one_clear_error(tiny, as_of, told, words):
    with pytest.raises(InputError, match=words):
        tiny(as_of, *told)


def test_what_is_broadcast_later_counts_for_nothing(tiny):
    exposure = [(BEGIN, 10, iso(10)), (END, 20, iso(20)), ("met.SKY", 24, "clear")]
    now = tiny(25, *exposure)
    assert tiny(25, *exposure, (BEGIN, 25.5, iso(25.5)), ("met.SKY", 25.5, "rain"), (END, 40, iso(40))).hdus == now.hdus
    assert now.filename == "20240422.28810.00.fits"


def test_times_that_the_service_mends_after_the_settling_are_not_those_of_the_l0(tiny):
    planned = tiny(40, (BEGIN, 10, iso(10)), (END, 20, iso(20)), (END, 35, iso(20.25)))
    assert (planned.times.begin, planned.times.end) == (round((HOUR + 10) * SECOND), round((HOUR + 20) * SECOND))


def test_times_that_the_service_tells_late_are_better_than_none(tiny):
    planned = tiny(90, (BEGIN, 1, iso(1)), (END, 4, iso(4)), (BEGIN, 10, iso(10)), (END, 80, iso(20)))
    assert (planned.times.begin, planned.times.end) == (round((HOUR + 10) * SECOND), round((HOUR + 20) * SECOND))


def test_nothing_stands_in_for_origins_that_nobody_awaits_yet(tiny):
    assert [h.name for h in tiny(40, (BEGIN, 10, iso(10)), (END, 20, iso(20))).hdus] == ["PRIMARY", "TELEMETRY", "CARDS", "FINDINGS"]


def test_without_keywords_for_begin_and_end_it_is_the_yaml_that_is_wrong(one, tmp_path):
    with pytest.raises(ConfigurationError, match="one: the YAML names no keyword"):
        plan_from_telemetry(one, history(), tmp_path, as_of=0, frame=None, version="test", now=0)


def test_a_name_that_needs_a_sub_fits_is_one_clear_error(tmp_path):
    instrument = read_instrument(TINY.replace("{date}.{seconds}", "{stem}"), "tiny.yaml")
    samples = history((BEGIN, HOUR + 10, iso(10)), (END, HOUR + 20, iso(20)))
    with pytest.raises(InputError, match=r"cannot be named \{stem\}\.fits: it has no stem"):
        plan_from_telemetry(instrument, samples, tmp_path, as_of=round((HOUR + 60) * SECOND), frame=None, version="test", now=0)


@pytest.mark.parametrize("answers", [0, 1, 2, 3, 4])
def test_a_history_that_goes_away_is_no_header_without_telemetry(tmp_path, answers):
    samples = history((BEGIN, HOUR + 10, iso(10)), (END, HOUR + 20, iso(20)), ("met.TEMP", HOUR, "1.5"))
    left = iter(range(answers))

    class Failing(Memory):
        def as_of(self, names, instants):
            self.answer()
            return super().as_of(names, instants)

        def during(self, names, begin, end):
            self.answer()
            return super().during(names, begin, end)

        def answer(self):
            if next(left, None) is None:
                raise TelemetryError("the history is away")

    def make() -> Plan:
        instrument, as_of = read_instrument(TINY, "tiny.yaml"), round((HOUR + 60) * SECOND)
        return plan_from_telemetry(instrument, Failing(samples.samples), tmp_path, as_of=as_of, frame=None, version="test", now=0)

    if answers < 4:
        with pytest.raises(TelemetryError, match="the history is away"):
            make()
    else:
        assert make().filename
