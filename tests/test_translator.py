"""`ObservationInfo` of an L0: it agrees with the record of the same exposure, property by property."""

import logging
import math
import subprocess
import sys
from pathlib import Path

import astropy.units as u
import pytest
from astro_metadata_translator import MetadataTranslator, ObservationInfo
from astropy.io import fits
from astropy.time import Time
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assembler import __version__, translator
from assembler.core.columns import COLUMNS
from assembler.instruments import read_instrument
from assembler.service.l0_records import read_record

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent


def _is_instant(info, column, name):
    return (Time(column, format="isot", scale="utc") - getattr(info, name)).to_value(u.s) == pytest.approx(0, abs=1e-9)


AGREE = {
    "instrument": lambda info, told: info.instrument == told,
    "telescope": lambda info, told: info.telescope == told,
    "obs_id": lambda info, told: info.observation_id == told,
    "exposure_id": lambda info, told: info.exposure_id == info.visit_id == told,
    "day_obs": lambda info, told: info.observing_day == told,
    "seq_num": lambda info, told: info.observation_counter == info.group_counter_start == info.group_counter_end == told,
    "group_id": lambda info, told: info.exposure_group == told,
    "begin_time": lambda info, told: _is_instant(info, told, "datetime_begin"),
    "end_time": lambda info, told: _is_instant(info, told, "datetime_end"),
    "exposure_time": lambda info, told: info.exposure_time.to_value(u.s) == told,
    "exposure_time_requested": lambda info, told: info.exposure_time_requested.to_value(u.s) == told,
    "dark_time": lambda info, told: info.dark_time.to_value(u.s) == told,
    "physical_filter": lambda info, told: info.physical_filter == told,
    "observation_type": lambda info, told: info.observation_type == told,
    "observation_reason": lambda info, told: info.observation_reason == told,
    "science_program": lambda info, told: info.science_program == told,
    "target_name": lambda info, told: info.object == told,
    "target_id": lambda info, told: info.ext_target_id == told,
    "scheduler_note": lambda info, told: info.ext_scheduler_note == told,
    "tracking_ra": lambda info, told: info.tracking_radec.ra.deg == pytest.approx(told, abs=1e-10),
    "tracking_dec": lambda info, told: info.tracking_radec.dec.deg == pytest.approx(told, abs=1e-10),
    "sky_angle": lambda info, told: info.boresight_rotation_angle.deg == told and info.boresight_rotation_coord == "sky",
    "azimuth": lambda info, told: info.altaz_begin.az.deg == pytest.approx(told, abs=1e-10),
    "zenith_angle": lambda info, told: info.altaz_begin.zen.deg == pytest.approx(told, abs=1e-10),
    "airmass": lambda info, told: info.boresight_airmass == told,
    "air_temperature": lambda info, told: info.temperature.to_value(u.K) == told,
    "pressure": lambda info, told: info.pressure.to_value(u.Pa) == told,
    "humidity": lambda info, told: info.relative_humidity == told,
    "wind_speed": lambda info, told: info.ext_wind_speed.to_value(u.m / u.s) == told,
    "wind_direction": lambda info, told: info.ext_wind_direction.deg == told,
    "seeing": lambda info, told: info.ext_seeing.to_value(u.arcsec) == told,
    "focus": lambda info, told: info.focus_z.to_value(u.m) == told,
    "has_simulated": lambda info, told: info.has_simulated_content is told,
    "can_see_sky": lambda info, told: info.can_see_sky is told,
    "l0_version": lambda info, told: info.ext_l0_version == told,
}
"""By column, whether the property that is the same agrees with it."""

UNKNOWN = {
    "dark_time": "dark_time",
    "physical_filter": "physical_filter",
    "scheduler_note": "ext_scheduler_note",
    "wind_speed": "ext_wind_speed",
    "wind_direction": "ext_wind_direction",
    "seeing": "ext_seeing",
}
"""Columns that KPF cannot give, with their properties."""

FULL = """\
instrument: full
filename: "{stem}.fits"
origins:
  cam: {prefix: CM, flag: CAM, file: CAMFN, files: "*"}
record:
  location: {longitude: -70.7, latitude: -30.2, height: 2663}
  columns:
    telescope: {value: T}
    exposure_id: {template: "{day_obs}{seq_num:05}"}
    seq_num: {from: SEQ}
    group_id: {value: G}
"""
FULL += "".join(f"    {name}: {{from: X{n}}}\n" for n, name in enumerate(COLUMNS) if name not in FULL and not COLUMNS[name].is_told)


@pytest.fixture
def logged(caplog):
    caplog.set_level(logging.WARNING)
    return caplog


def test_observation_info_agrees_with_the_record_property_by_property(l0, kpf, logged):
    columns = read_record(l0, kpf).columns
    info = ObservationInfo(fits.getheader(l0), pedantic=True)
    assert AGREE.keys() == COLUMNS.keys() - {"l0_name", "l0_written"}
    assert {name for name, told in columns.items() if told is None} == UNKNOWN.keys()
    for name, agrees in AGREE.items():
        if name in UNKNOWN:
            assert getattr(info, UNKNOWN[name]) is None
        else:
            assert agrees(info, columns[name]), name
    assert logged.messages == []


def test_every_column_that_an_instrument_fills_is_a_property(logged):
    made = translator.translator_of(read_instrument(FULL, "full.yaml"))
    numbers = {f"X{n}": 1.5 for n, c in enumerate(COLUMNS.values()) if c.kind == "float"}
    header = {f"X{n}": "T" for n in range(len(COLUMNS))} | numbers | {"SEQ": 7}
    header |= {"FAVER": "1", "L0VER": 3, "TIMESYS": "UTC", "CAMERAS": 1, "OFNAME": "a.fits", "CAM": "YES", "CAMFN": "/a"}
    header |= {"DATE-BEG": "2024-04-22T11:00:00", "DATE-END": "2024-04-22T11:00:09", "DATE": "2024-04-22T11:01:00"}
    info = ObservationInfo(header, pedantic=True)
    assert info.translator_class_name == made.__name__
    columns, problems = translator.exposure_columns(made.described, header)
    assert problems == []
    assert None not in columns.values()
    assert [name for name, agrees in AGREE.items() if not agrees(info, columns[name])] == []
    assert columns["exposure_id"] == 2024042100007
    assert info.observing_day_offset.to_value(u.h) == 12
    assert info.location.height.to_value(u.m) == pytest.approx(2663)
    again = ObservationInfo.from_json(info.to_json())
    assert again.ext_wind_speed == info.ext_wind_speed
    assert again == info
    assert logged.messages == []


def test_where_the_telescope_looked_is_of_the_snapshot_that_told_it(l0):
    info = ObservationInfo(fits.getheader(l0))
    assert info.altaz_begin.obstime.isot == "2024-04-22T08:00:47.920"  # DATE-MID
    assert info.altaz_begin.location.lat.deg == pytest.approx(19.8283)
    assert info.tracking_radec.frame.name == "fk5"
    assert info.location.lon.deg == pytest.approx(-155.4783)
    assert {"RA", "DEC", "AZ", "EL", "IMTYPE", "GCPA", "FRAMENO"} <= info.cards_used
    assert "SCI-OBJ" not in info.stripped_header()


def test_without_telemetry_it_is_what_the_cameras_tell(call, night, logged):
    _, out, _ = call("assemble", night.directory, "--frame", night.frames[0])
    info = ObservationInfo(fits.getheader(out.strip()), pedantic=True)
    assert (info.observation_type, info.object, info.boresight_airmass) == (None, None, None)
    assert (info.exposure_id, info.science_program, info.telescope) == (215921, "C050", "Keck I")
    assert info.altaz_begin.alt.deg == 44.25
    assert logged.messages == []


def test_where_the_moment_is_no_time_the_begin_stands_for_it(l0):
    info = ObservationInfo(dict(fits.getheader(l0)) | {"DATE-MID": ""}, pedantic=True)
    assert info.altaz_begin.obstime == info.datetime_begin


def test_no_header_but_an_l0_of_its_instrument_is_its_own(l0, night, kpf):
    mine = translator.SHIPPED
    header = fits.getheader(l0)
    assert mine.can_translate(header)
    assert MetadataTranslator.determine_translator(header) is mine
    assert not mine.can_translate({})
    for extension in range(1, 5):
        assert not mine.can_translate(fits.getheader(l0, extension))
    for path in night.sub_fits(night.frames[0]).values():
        assert not mine.can_translate(fits.getheader(path))
    foreign = translator.translator_of(read_instrument(FULL, "full.yaml"))
    assert not foreign.can_translate(header)


def test_the_command_translates_a_file(l0):
    words = [BIN / "astrometadata", "-p", "l0-assembler", "translate", l0]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "observation_id: KP.20240422.28832.89\n" in done.stdout
    assert "exposure_time: 30.068 s\n" in done.stdout
    assert "WARNING" not in done.stderr


def test_the_command_takes_the_primary_alone_though_an_extension_has_other_times(call, night, tmp_path):
    for origin, path in night.sub_fits(night.frames[0]).items():
        if origin not in ("ca_hk", "green"):
            path.unlink()
    green = night.sub_fits(night.frames[0])["green"]
    green.unlink()
    _, out, _ = call("assemble", night.directory, "--frame", night.frames[0])
    assert fits.getheader(out.strip(), 1)["EXTNAME"] == "CA_HK"
    fits.setval(out.strip(), "DATE-BEG", ext=1, value="1999-01-01T00:00:00")
    words = [BIN / "astrometadata", "-p", "l0-assembler", "translate", out.strip()]
    assert "datetime_begin: 2024-04-22T08:00:32" in subprocess.run(words, capture_output=True, text=True, check=True).stdout


def test_the_plugin_is_listed_and_has_the_version_of_the_assembler():
    done = subprocess.run([BIN / "astrometadata", "--list-plugins"], capture_output=True, text=True, check=True)
    assert "* l0-assembler:\n  - KPF\n" in done.stdout
    assert translator.SHIPPED.translator_version() == __version__


def test_what_does_not_fit_is_told_once_and_is_no_value(l0, logged):
    header = fits.getheader(l0)
    header["EL"] = "high"
    header["RA"] = "25:00:00"
    info = ObservationInfo(header, pedantic=True)
    assert (info.altaz_begin, info.tracking_radec) == (None, None)
    assert [message.partition(": ")[2] for message in logged.messages] == [
        "tracking_ra: RA is 375, which is not from 0 to 360",
        "zenith_angle: EL is no number",
    ]


def test_a_card_that_astropy_cannot_read_is_no_value_and_the_others_are(l0):
    text = fits.getheader(l0).tostring(endcard=False)
    start = text.index("AIRMASS =")
    header = fits.Header.fromstring(text[:start] + "AIRMASS = INF".ljust(80) + text[start + 80 :])
    info = ObservationInfo(header, pedantic=True)
    assert (info.boresight_airmass, info.object, info.exposure_id) == (None, "T001823", 215921)


def test_a_pointing_whose_moment_is_no_time_is_of_the_begin(l0, kpf):
    header = fits.getheader(l0)
    header["DATE-MID"] = ""
    info = ObservationInfo(header, pedantic=True)
    assert info.altaz_begin.obstime == info.datetime_begin


KEYWORDS = sorted({s for rule in translator.SHIPPED.described.record.columns for s in rule.sources} | {"EQUINOX", "DATE-MID"})
NUMBERS = st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False, width=32))
TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(KEYWORDS), st.one_of(NUMBERS, TEXT)), max_size=20))
def test_whatever_a_header_says_is_an_observation_info_and_agrees(l0, changes):
    header = dict(fits.getheader(l0)) | dict(changes)
    columns, _ = translator.exposure_columns(translator.SHIPPED.described, header)
    info = ObservationInfo(header, pedantic=True)
    coordinates = {"tracking_ra": "tracking_dec", "tracking_dec": "tracking_ra", "azimuth": "zenith_angle", "zenith_angle": "azimuth"}
    for name, agrees in AGREE.items():
        if columns[name] is not None and columns[coordinates.get(name, name)] is not None:
            assert agrees(info, columns[name]), name
    assert math.isfinite(info.location.height.to_value(u.m))


def test_only_the_translator_imports_astropy_and_its_library():
    code = "import sys, assembler, assembler.cli, assembler.record; sys.exit('astro_metadata_translator' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_the_extra_one_line_tells_which(tmp_path):
    (tmp_path / "astro_metadata_translator.py").write_text("raise ImportError('not here')")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import assembler.translator"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith("install l0-assembler[translator]")
