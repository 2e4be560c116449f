"""The record of an exposure: what of a primary header becomes which column, and what cannot."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assembler.core.cards import read_records
from assembler.core.columns import ALWAYS, COLUMNS, LARGEST
from assembler.core.record import LONGEST, MOST_KEYWORDS, exposure_columns, exposure_record, is_l0_of
from assembler.instruments import read_instrument

ONE = """\
instrument: one
filename: T.{date}.{seconds}.fits
origins:
  cam: {prefix: CM, flag: CAM, file: CAMFN, files: "*"}
record:
  columns:
"""
L0 = {
    "FAVER": "0.1.0",
    "L0VER": 1,
    "TIMESYS": "UTC",
    "DATE": "2024-04-22T08:03:00.000",
    "CAMERAS": 5,
    "DATE-BEG": "2024-04-22T08:00:32.886179",
    "DATE-END": "2024-04-22T08:01:02.954200",
    "OFNAME": "KP.20240422.28832.89.fits",
    "FRAMENO": 215921,
    **dict.fromkeys(("GREEN", "RED", "CA_HK", "EXPMETER"), "YES"),
    "GUIDE": "NO",
    **{card: f"/n/{card}.fits" for card in ("GREENFN", "REDFN", "CA_HKFN", "EXPMETFN")},
    "GUIDEFN": None,
}
TELEMETRY = {
    "RA": "13:04:52.90",
    "DEC": "-00:45:14.0",
    "EQUINOX": 2000.0,
    "EL": 44.25,
    "AZ": -12.5,
    "IMTYPE": "Flatlamp",
    "SCI-OBJ": "Target",
    "TUBETEMP": 1.01,
    "PRES": 622.806,
    "TARGNAME": "T1",
    "OBJECT": " ",
    "MJD-OBS": 60422.5,
    "DOMEPOSN": None,
}


def columns_of(rule: str, values, **more):
    """Return what an instrument with one rule makes of a header, and its problems."""
    instrument = read_instrument(f"{ONE}    {rule}\n", "one.yaml")
    return exposure_columns(instrument, {"DATE-BEG": "2024-04-22T11:59:59.5", "OFNAME": "T.1.fits", **values, **more})


def test_a_header_becomes_columns_in_their_units(kpf):
    columns, problems = exposure_columns(kpf, L0 | TELEMETRY)
    assert problems == []
    assert list(columns) == list(COLUMNS)
    assert {name: told for name, told in columns.items() if told is not None} == {
        "instrument": "KPF",
        "obs_id": "KP.20240422.28832.89",
        "exposure_id": 215921,
        "day_obs": 20240422,
        "seq_num": 215921,
        "group_id": "215921",
        "begin_time": "2024-04-22T08:00:32.886179",
        "end_time": "2024-04-22T08:01:02.954200",
        "observation_type": "flat",
        "observation_reason": "calibration",
        "target_name": "T1",
        "tracking_ra": 196.2204166667,
        "tracking_dec": -0.7538888888889,
        "azimuth": 347.5,
        "zenith_angle": 45.75,
        "air_temperature": 274.16,
        "pressure": 62280.6,
        "has_simulated": False,
        "can_see_sky": True,
        "l0_name": "KP.20240422.28832.89.fits",
        "l0_version": 1,
        "l0_written": "2024-04-22T08:03:00.000000",
    }


def test_the_rest_of_telemetry_is_kept_with_unit_and_snapshot(kpf):
    rows = exposure_record(kpf, L0 | TELEMETRY | {"STARTIME": "2024-04-22T08:00:32.886", "LST": "11:47:09", "DRA": 0.5}).keywords
    assert [(r.keyword, r.value, r.unit, r.moment) for r in rows] == [
        ("STARTIME", "2024-04-22T08:00:32.886", "", "service"),
        ("MJD-OBS", "60422.5", "", "begin"),
        ("DRA", "0.5", "s/s", "middle"),
        ("LST", "11:47:09", "", "middle"),
    ]


def test_without_telemetry_the_cameras_tell_what_they_know(kpf):
    columns, problems = exposure_columns(kpf, L0 | {"GCRA": "12:00:00", "GRELAPS": 30.068, "GCEL": 60, "RDPROGNA": "C050"})
    assert problems == []
    told = [columns[name] for name in ("tracking_ra", "exposure_time", "zenith_angle", "science_program", "airmass")]
    assert told == [180.0, 30.068, 30.0, "C050", None]


@pytest.mark.parametrize(
    ("rule", "value", "expected"),
    [
        ("exposure_time: {from: X, unit: ms}", 250, 0.25),
        ("exposure_time: {from: X, unit: min}", "1.5D+0", 90.0),
        ("air_temperature: {from: X, unit: F}", 32, 273.15),
        ("pressure: {from: X, unit: mmHg}", 760, 101325.0144354),
        ("pressure: {from: X, unit: mbar}", "613.2", 61320.0),
        ("wind_speed: {from: X, unit: km/h}", 36, 10.0),
        ("humidity: {from: X, unit: fraction}", 0.4, 40.0),
        ("focus: {from: X, unit: um}", -1382, -0.001382),
        ("tracking_ra: {from: X, unit: h}", 12, 180.0),
        ("tracking_ra: {from: X, unit: rad}", math.pi, 180.0),
        ("zenith_angle: {from: X, unit: elevation}", 90.05, 0.0),
        ("wind_direction: {from: X}", 370, 10.0),
        ("wind_direction: {from: X}", -1e-40, 0.0),
        ("tracking_ra: {from: X, unit: hms}", "24:00:00", 0.0),
        ("seq_num: {from: X}", " 0042 ", 42),
        ("seq_num: {from: X}", 42.0, 42),
        ("seq_num: {from: X, pattern: 'cam_(\\d+)[.]fits'}", "cam_0042.fits", 42),
        ("has_simulated: {from: X, pattern: 'SIM.*'}", "SIMULATOR", True),
        ("has_simulated: {from: X, pattern: 'SIM.*'}", "SKY", False),
        ("has_simulated: {from: X}", True, True),
        ("can_see_sky: {from: X, words: {Open: true, Shut: false}}", "SHUT", False),
        ("physical_filter: {value: clear}", None, "clear"),
        ("target_id: {from: [X, Y]}", 17, "17"),
        ("exposure_id: {template: '{day_obs}00007'}", None, 2024042100007),
        ("telescope: {from: X}", True, "true"),
    ],
)
def test_a_value_becomes_that_of_its_column(rule, value, expected):
    columns, problems = columns_of(rule, {"X": value})
    assert (columns[rule.partition(":")[0]], problems) == (expected, [])


@pytest.mark.parametrize(
    ("rule", "value", "told"),
    [
        ("exposure_time: {from: X}", "long", "exposure_time: X is no number"),
        ("exposure_time: {from: X}", -1.0, "exposure_time: X is -1, which is not from 0 to inf"),
        ("exposure_time: {from: X}", True, "exposure_time: X is no number"),
        ("exposure_time: {from: X}", float("nan"), "exposure_time: X is no finite number"),
        ("exposure_time: {from: X, unit: d}", 1.7e308, "exposure_time: X is no finite number"),
        ("exposure_time: {from: X}", 10**400, "exposure_time: X is too great a number"),
        ("tracking_ra: {from: X, unit: hms}", "13:77:00", "tracking_ra: X has more than 60 minutes"),
        ("tracking_ra: {from: X, unit: hms}", 13.5, "tracking_ra: X is no text as 12:34:56.7"),
        ("tracking_ra: {from: X, unit: hms}", "24:00:01", "tracking_ra: X is 360.004, which is not from 0 to 360"),
        ("zenith_angle: {from: X, unit: elevation}", 92, "zenith_angle: X is -2"),
        ("exposure_id: {from: X}", 2**63, "exposure_id: X is no whole number from 0 to"),
        ("exposure_id: {from: X}", -1, "exposure_id: X is no whole number from 0 to"),
        ("seq_num: {from: X}", 4.5, "seq_num: X is no whole number"),
        ("observation_type: {from: X, words: {a: b}}", "c", "observation_type: X is 'c', which is none of the words"),
        ("seq_num: {from: X, pattern: 'cam_(.*)'}", "red_7", "seq_num: X is 'red_7', which is not as"),
        ("has_simulated: {from: X}", "perhaps", "has_simulated: X is 'perhaps', which is neither true nor false"),
    ],
)
def test_what_does_not_fit_is_no_value_and_a_problem(rule, value, told):
    columns, (problem,) = columns_of(rule, {"X": value})
    assert columns[rule.partition(":")[0]] is None
    assert problem.startswith(told)


def test_an_exposure_id_is_made_of_the_night_and_its_number():
    rule = 'exposure_id: {template: "{day_obs}{seq_num:05}"}\n    seq_num: {from: SEQ}'
    assert columns_of(rule, {"SEQ": 42})[0]["exposure_id"] == 2024042100042
    assert columns_of(rule, {})[0]["exposure_id"] is None


@pytest.mark.parametrize(("begin", "day"), [("2024-04-22T11:59:59.999", 20240421), ("2024-04-22T12:00:00", 20240422)])
def test_a_night_has_one_date_and_unless_told_otherwise_it_begins_at_noon(begin, day):
    assert columns_of("telescope: {value: T}", {}, **{"DATE-BEG": begin})[0]["day_obs"] == day


def test_coordinates_of_another_equinox_are_not_told_as_those_of_j2000(kpf):
    columns, (problem,) = exposure_columns(kpf, L0 | TELEMETRY | {"EQUINOX": 2024.3})
    assert (columns["tracking_ra"], columns["tracking_dec"], columns["azimuth"]) == (None, None, 347.5)
    assert problem == "tracking_ra and tracking_dec: EQUINOX is '2024.3', and not 2000"


def test_an_l0_is_known_from_everything_else(kpf, one):
    assert is_l0_of(kpf, L0)
    assert not is_l0_of(one, L0)
    for keyword in L0.keys() - {"DATE", "DATE-BEG", "DATE-END", "FRAMENO", "GUIDEFN"}:
        assert not is_l0_of(kpf, {k: v for k, v in L0.items() if k != keyword}), keyword
    for change in (
        {"CAMERAS": 4},
        {"OFNAME": "HR.20240422.28832.89.fits"},
        {"RED": "Y"},
        {"RED": "NO"},
        {"TIMESYS": "TAI"},
        {"L0VER": "1"},
    ):
        assert not is_l0_of(kpf, L0 | change), change


def test_a_sub_fits_and_an_l0_of_another_assembler_are_none(kpf, night):
    for path in night.sub_fits(night.frames[0]).values():
        header = path.read_bytes()[:28800].decode("latin-1")
        images = [header[i : i + 80] for i in range(0, len(header), 80)]
        assert not is_l0_of(kpf, {r.keyword: r.value for r in read_records(images) if r.kind == "value" and not r.fault})
    assert not is_l0_of(kpf, {k: v for k, v in (L0 | {"FAVER": "1.5"}).items() if k != "L0VER"})


ANY = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=700), st.complex_numbers(), st.from_regex(r"-?\d\d:\d\d:\d\d")
)


KEYWORDS = sorted({*TELEMETRY, "DATE", "DATE-BEG", "L0VER", "OFNAME", "FRAMENO", "LST", "ELAPSED", "GCPA", "TELFOCUS", "AIRMASS"})


@given(st.lists(st.tuples(st.sampled_from(KEYWORDS), ANY), max_size=20))
def test_whatever_a_header_says_is_a_record(kpf, changes):
    record = exposure_record(kpf, L0 | dict(changes))
    assert all(record.columns[name] is not None for name in ALWAYS)
    for name, told in record.columns.items():
        kind = COLUMNS[name].kind
        if told is not None:
            assert isinstance(told, {"int": int, "float": float, "bool": bool}.get(kind, str)), name
        if isinstance(told, str):
            assert len(told) <= LONGEST
            assert told.isprintable()
        if isinstance(told, int | float):
            assert math.isfinite(told)
        if kind == "int" and told is not None:
            assert abs(told) <= LARGEST
    assert all(problem.isprintable() for problem in record.problems)


def test_a_record_is_bounded(kpf):
    many = replace(kpf, shared=frozenset(f"K{number}" for number in range(2 * MOST_KEYWORDS)))
    record = exposure_record(many, L0 | dict.fromkeys(many.shared, "x" * 9000))
    assert len(record.keywords) == MOST_KEYWORDS
    assert {len(row.value) for row in record.keywords} == {LONGEST}
