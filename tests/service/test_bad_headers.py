"""Headers as they come from observatories on bad nights: each trouble has its code, and a header without trouble has none."""

import csv
import datetime as dt
from collections.abc import Callable, Iterable
from pathlib import Path

import kpf_night
import numpy as np
import pytest

from assembler.service.finder import find_night
from assembler.service.pipeline import plan_exposure
from assembler.telemetry import sqlite
from assembler.telemetry.load import read_samples
from assembler.telemetry.urls import open_history

ONE = kpf_night.exposure(1)
BEGIN, END = ONE.begin, ONE.end
HOURS = dt.timedelta(hours=1)
SECONDS = dt.timedelta(seconds=1)
Cards = dict[str, object]


def iso(instant: dt.datetime, digits: int = 6) -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%S.%f")[: 20 + digits].rstrip(".")


@pytest.fixture
def sound(tmp_path) -> kpf_night.Night:
    """Return a night of two exposures whose cameras tell in EXPTIME how long they were."""
    night = kpf_night.make_night(tmp_path / "data", exposures=2)
    for origin in ("green", "red"):
        rewrite(night, origin, {"EXPTIME": 30068})
    return night


def rewrite(night: kpf_night.Night, origin: str, cards: Cards, frame: int = ONE.frame) -> None:
    """Write an origin's sub-FITS anew, with other cards in its primary; a keyword that is not there is added."""
    one = kpf_night.exposure(night.frames.index(frame))
    hdus = kpf_night.sub_fits(origin, one, 2, (32, 24), np.random.default_rng(1))
    kept = [c for c in hdus[0].cards if c[:8].rstrip() not in cards]
    if origin in ("green", "red"):
        cards = {"EXPTIME": 30068} | cards
        kept = [c for c in kept if c[:8].rstrip() != "EXPTIME"]
    hdus[0].cards[:] = [*kept, *(kpf_night.card(k, v) for k, v in cards.items())]
    kpf_night.write_fits(night.directory / one.path(origin), hdus)


def history(night: kpf_night.Night, told: dict[str, Iterable[tuple[dt.datetime, str]]]) -> str:
    """Return the URL of a history with the night's telemetry, some keywords of it told otherwise."""
    with night.telemetry.open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if f"{r['service']}.{r['keyword']}" not in told]
    for name, samples in told.items():
        service, _, keyword = name.partition(".")
        rows += [{"service": service, "keyword": keyword, "time": t.timestamp(), "value": v} for t, v in samples]
    changed = night.telemetry.with_name("changed.csv")
    with changed.open("w", newline="") as file:
        writer = csv.DictWriter(file, ("service", "keyword", "time", "value"))
        writer.writeheader()
        writer.writerows(rows)
    path = night.telemetry.with_name("changed.db")
    sqlite.load(str(path), read_samples(changed))
    return f"sqlite:///{path}"


@pytest.fixture
def troubles(kpf, sound) -> Callable[..., set[tuple[str, str]]]:
    """Return what tells code and origin of every finding graver than information, of the second exposure."""

    def found_in(told: dict[str, Iterable[tuple[dt.datetime, str]]] | None = None) -> set[tuple[str, str]]:
        opened = open_history(history(sound, told or {}))
        try:
            plan = plan_exposure(find_night(kpf, sound.directory, ONE.frame), opened, Path(), version="test", now=0)
        finally:
            opened.close()
        return {(f.code, f.origin or f.keyword) for f in plan.findings if f.severity != "info"}

    return found_in


def test_a_header_without_trouble_has_no_warning_at_all(troubles):
    assert troubles() == set()


def test_a_target_name_left_over_from_the_last_visit(troubles):
    earlier, now = BEGIN - dt.timedelta(minutes=30), BEGIN - 2 * SECONDS
    assert troubles({
        "kpfconfig.TARGNAME": [(earlier, "Procyon")],
        "dcs1.TARGRA": [(earlier, "07:39:18.1"), (now, "13:04:52.9")],
    }) == {("not-refreshed", "TARGNAME")}  # fmt: skip


def test_a_second_exposure_of_the_same_target_is_no_trouble(troubles):
    earlier = BEGIN - dt.timedelta(minutes=30)
    assert troubles({"kpfconfig.TARGNAME": [(earlier, "Procyon")], "dcs1.TARGRA": [(earlier, "07:39:18.1")]}) == set()


def test_an_object_none_because_a_sensor_had_broken(troubles):
    assert troubles({"kpfconfig.SCI-OBJ": [(BEGIN, "None")]}) == {("suspect-value", "SCI-OBJ")}


def test_a_dark_without_an_object_is_no_trouble(troubles):
    assert troubles({"kpfconfig.SCI-OBJ": [(BEGIN, "None")], "kpfconfig.IMTYPE": [(BEGIN, "Dark")]}) == set()


CASES = [
    ("an exposure meter that starts late", "expmeter", {"DATE-BEG": iso(END - SECONDS, 3)}, {"time-residual"}),
    ("dates of 1970", "green", {"DATE-BEG": "1970-01-01T00:00:17.250", "DATE-END": "1970-01-01T00:00:47.318"}, {"time-1970"}),
    ("DATE in UTC beside TAI", "red", {"DATE-BEG": iso(BEGIN + 37 * SECONDS), "DATE-END": iso(END + 37 * SECONDS)},
     {"offset-tai", "written-before-end"}),
    ("TAI, and TIMESYS says so", "red",
     {"DATE-BEG": iso(BEGIN + 37 * SECONDS), "DATE-END": iso(END + 37 * SECONDS), "TIMESYS": "TAI"}, set()),
    ("a scale that nobody knows", "red", {"TIMESYS": "LOCAL"}, {"time-scale"}),
    ("local time in a UTC header", "green",
     {"DATE-BEG": iso(BEGIN - 10 * HOURS), "DATE-END": iso(END - 10 * HOURS), "DATE": iso(END - 10 * HOURS)}, {"offset-hours"}),
    ("a date that slipped", "ca_hk", {"DATE-BEG": iso(BEGIN - 24 * HOURS), "DATE-END": iso(END - 24 * HOURS)}, {"offset-days"}),
    ("TAI at one end", "green", {"DATE-BEG": iso(END - 47.5 * SECONDS), "ELAPSED": 7.5, "EXPTIME": 7500},
     {"time-residual", "offset-tai"}),
    ("EXPTIME 0 in milliseconds", "red", {"EXPTIME": 0}, {"duration-differs"}),
    ("a fraction that is missing", "ca_hk", {"DATE-BEG": iso(BEGIN, 0)}, {"fraction-missing"}),
    ("an end before the begin", "ca_hk", {"DATE-BEG": iso(END), "DATE-END": iso(BEGIN)},
     {"candidate-reversed", "time-residual", "duration-differs"}),
    ("another exposure by its frame number", "ca_hk", {"FRAMENO": 17}, {"frame-differs"}),
    ("another exposure by its times", "ca_hk", {"DATE-BEG": iso(BEGIN - 300 * SECONDS), "DATE-END": iso(END - 300 * SECONDS)},
     {"other-exposure"}),
    ("a modified Julian date of another instant", "red", {"MJD-BEG": 60422.0}, {"mjd-differs"}),
    ("what is no time", "red", {"DATE-BEG": "22/04/24 08:01"}, {"time-unreadable"}),
]  # fmt: skip


@pytest.mark.parametrize(("origin", "cards", "codes"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_each_trouble_has_its_code(sound, troubles, origin, cards, codes):
    rewrite(sound, origin, cards)
    assert troubles() == {(code, origin) for code in codes}


def test_an_origin_of_another_exposure_is_left_out_with_the_reason(kpf, sound):
    rewrite(sound, "ca_hk", {"DATE-BEG": iso(BEGIN - 300 * SECONDS), "DATE-END": iso(END - 300 * SECONDS)})
    plan = plan_exposure(find_night(kpf, sound.directory, ONE.frame), None, Path(), version="test", now=0)
    assert "CA_HK" not in [h.name for h in plan.hdus]
    (told,) = [f.message for f in plan.findings if f.code == "other-exposure"]
    assert "/CaHK/kpf_hk_215922.fits" in told
    assert iso(BEGIN) in told


def test_a_service_that_still_holds_the_previous_exposure_gives_the_files_times_and_telemetry_at_those(kpf, sound):
    old = kpf_night.exposure(0)
    opened = open_history(history(sound, {
        "kpfexpose.STARTTIME": [(old.begin, iso(old.begin))],
        "kpfexpose.ENDTIME": [(old.end, iso(old.end))],
    }))  # fmt: skip
    plan = plan_exposure(find_night(kpf, sound.directory, ONE.frame), opened, Path(), version="test", now=0)
    opened.close()
    assert (plan.times.begin_from, plan.times.end_from) == ("green", "green")
    cards = [c.rstrip() for c in plan.hdus[0].cards]
    assert f"COMMENT Snapshot begin: {iso(BEGIN + 0.1 * SECONDS)} UTC" in cards
    assert f"COMMENT Snapshot end: {iso(END + 0.1 * SECONDS)} UTC" in cards
    assert any(c.startswith("STARTIME= '2024-04-22T08:00:32.886'") for c in cards)
    assert {f.code for f in plan.findings if f.severity != "info"} == {"service-stale"}
