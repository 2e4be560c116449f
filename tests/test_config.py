"""The YAML: what is right becomes values, what is wrong is one line that says where and what was expected."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import kpf_night
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assembler.config import default_instrument, load_instrument
from assembler.core.cards import keyword_of
from assembler.core.instrument import instrument_from
from assembler.core.prefixes import rule_name
from assembler.core.snapshots import writers
from assembler.errors import ConfigurationError
from assembler.instruments import read_instrument

ROOT = Path(__file__).parent.parent
GOOD = """\
instrument: test
filename: T.{date}.{seconds}.fits
exposure:
  begin: {from: svc.BEGIN, card: TBEG}
  trust: [one, two]
origins:
  one:
    prefix: ON
    flag: ONE
    file: ONEFN
    files: One/one_{frame}.fits
    extensions: {ONE_A: 1, ONE_B: "SCI,2"}
    amplifiers:
      extensions: [ONE_A, ONE_B]
      cards:
        GAIN##: {modes: {2: {02: 1, 03: 2}}}
    times: {begin: DATE-BEG, tolerance: 0.5 s}
    renames: {LONGNAME: ONLONG}
  two:
    prefix: TW
    flag: TWO
    file: TWOFN
    files: Two/*.fits
    match: time
snapshots:
  begin:
    offset: 100 ms
    keywords:
      TEMP: {from: met.TEMP, type: float}
telemetry:
  met.TEMP: {unit: C}
"""


def test_what_is_right_becomes_values():
    instrument = read_instrument(GOOD, "good.yaml")
    one, two = instrument.origins
    assert (one.prefix, one.times.tolerance, two.match) == ("ON", 500_000_000, "time")
    assert one.amplifier_cards[0].modes == {2: {"02": 1, "03": 2}}
    assert instrument.snapshots[0].offset == 100_000_000
    assert instrument.sources() == ("met.TEMP", "svc.BEGIN")


@pytest.mark.parametrize(
    ("old", "new", "line", "told"),
    [
        ("instrument: test", "instrumant: test", 1, "instrumant: is not known; expected instrument, filename"),
        ("    prefix: ON\n", "    prefix: ON\n    colour: red\n", 9, "colour: is not known; expected prefix, flag"),
        ("    prefix: ON\n", "    prefix: ON\n    prefix: OM\n", 9, "stands here again; expected it once, it is in line 8"),
        ("prefix: ON", "prefix: ONE", 8, "expected two upper-case letters, found 'ONE'"),
        ("prefix: ON", "prefix: NO1", 8, "expected two upper-case letters"),
        ("prefix: ON", "prefix: 12", 8, "origins.one.prefix: expected text, found 12"),
        ("prefix: ON", "prefx: ON", 8, "origins.one.prefx: is not known; expected prefix, flag"),
        ("instrument: test", "instrument: test\nshared: [DATE]", 2, "shared[0]: DATE is a card of the L0 itself"),
        ("times: {begin: DATE-BEG, tolerance: 0.5 s}", "times: soon", 17, "origins.one.times: expected a mapping, found 'soon'"),
        ("  begin:\n    offset", "  begin:\n    at: {from: svc.X}\n    offset", 26, "is the exposure's own; expected no at"),
        ("  begin:\n    offset", "  shutter:\n    offset", 26, "expected at, or one of begin, middle, end"),
        ("  begin:\n    offset", "  keyword:\n    at: {from: svc.X}\n    offset", 26, "is a column of the TELEMETRY table"),
        ("type: float}", "type: float, default: warm}", 29, "default: expected a value of type float; found 'warm'"),
        ("type: float}", "format: '%.2f'}", 29, "format: is for numbers; expected type int or float, found str"),
        ("type: float}", "type: float, format: '%s'}", 29, "expected how printf writes one number, for example %.3f, found '%s'"),
        ("type: float}", "type: float, range: [3, 1]}", 29, "range: expected the least and the greatest value"),
        ("type: float}", "during: mean}", 29, "during: a mean is seldom whole; expected type float"),
        ("type: float}", "during: max}", 29, "during: max is of numbers"),
        ("times: {begin: DATE-BEG,", "times: {begin: T, form: unix, scale: TAI,", 17, "UNIX seconds are in UTC"),
        ("type: float}", "must_refresh: sometimes}", 29, "must_refresh"),
        ("type: float}", "suspect_when: {a.B: [c]}}", 29, "suspect_when: expected suspect too"),
        ("tolerance: 0.5 s}", "tolerance: 0.5 s, durations: {EXPTIME: {unit: years}}}", 17, "EXPTIME.unit: expected 's', 'ms'"),
        ("tolerance: 0.5 s}", "tolerance: 0.5 s, scale: LOCAL}", 17, "times.scale: expected 'UTC', 'TAI'"),
        ("trust: [one, two]", "trust: one", 5, "exposure.trust: expected a list, found 'one'"),
        ("{ONE_A: 1, ONE_B:", "{ONE_A: 1.5, ONE_B:", 12, "origins.one.extensions.ONE_A: expected"),
        ("times: {begin: DATE-BEG,", "times: {elapsed: EXPTIME,", 17, "expected begin too"),
        ("prefix: TW", "prefix: ON", 20, "ON is that of one already; expected another one"),
        ("flag: TWO", "flag: ONE", 21, "ONE is that of one already"),
        ("flag: TWO", "flag: DATE", 21, "DATE is that of every L0 already"),
        ("flag: TWO", "flag: NAXIS2", 21, "NAXIS2 is that of every L0 already"),
        ("{LONGNAME: ONLONG}", "{LONGNAME: NAXIS9}", 18, "NAXIS9 is a card of the L0 itself"),
        ("file: TWOFN", "file: ONE", 22, "ONE is that of one already"),
        ("card: TBEG", "card: TWO", 4, "TWO is that of two already"),
        ("filename: T.{date}.{seconds}.fits\n", "", 1, "filename: is missing"),
        ("file: TWOFN", "file: TOOLONGNAME", 22, "up to 8"),
        ("{LONGNAME: ONLONG}", "{LONGNAME: ONLONG, OTHERS: ONLONG}", 18, "ONLONG is the new name of LONGNAME of one already"),
        ("{LONGNAME: ONLONG}", "{LONGNAME: TEMP}", 18, "TEMP is a card of the L0 itself or of its telemetry"),
        ("{LONGNAME: ONLONG}", "{LONGNAME: lower}", 18, "a FITS keyword"),
        ("tolerance: 0.5 s", "tolerance: 0.5", 17, "found 0.5"),
        ("tolerance: 0.5 s", "tolerance: half s", 17, "for example '0.1 s'"),
        ("offset: 100 ms", "offset: 100 parsec", 27, "for example '0.1 s'"),
        ("match: time", "match: colour", 24, "'frame' or 'time'"),
        ("files: Two/*.fits", "files: ../Two/*.fits", 23, "a path below the night's directory"),
        ("files: Two/*.fits", "files: /etc/*.fits", 23, "a path below the night's directory"),
        ("filename: T.{date}.{seconds}.fits", "filename: ../{date}.fits", 2, "no directory"),
        ("filename: T.{date}.{seconds}.fits", "filename: '{date.__class__}.fits'", 2, "{date}, {seconds}"),
        ("trust: [one, two]", "trust: [one, three]", 5, "expected an origin: one, two; found three"),
        ("{ONE_A: 1, ONE_B:", "{ONE_A: -1, ONE_B:", 12, "expected an HDU's number"),
        ("{ONE_A: 1, ONE_B:", "{CARDS: 1, ONE_B:", 12, "already; expected another name"),
        ("extensions: [ONE_A, ONE_B]", "extensions: [ONE_A, ONE_C]", 14, "ONE_C is no extension of one"),
        ("{02: 1, 03: 2}", "{2: 1, 03: 2}", 16, "expected 2 digits"),
        ("{02: 1, 03: 2}", "{02: 1, 03: 3}", 16, "expected an amplifier from 1 to 2"),
        ("GAIN##:", "LONGGAIN##:", 16, "up to 8 characters, with # for each digit"),
        ("{from: met.TEMP, type: float}", "{from: TEMP, type: float}", 29, "expected service.KEYWORD"),
        ("{from: met.TEMP, type: float}", "{from: met.TEMP, type: real}", 29, "'str', 'int', 'float' or 'bool'"),
        ("      TEMP: {from", "      DATE: {from", 29, "the L0 itself has a card of that name"),
        ("      TEMP: {from", "      NAXIS3: {from", 29, "the L0 itself has a card of that name"),
        *(("telemetry:\n", f"record:\n  {record}\ntelemetry:\n", 31, told) for record, told in (
            ("day_begins: 24 h", "expected a time of day, less than 24 h"),
            ("frame: galactic", "record.frame: expected 'icrs' or 'fk5'"),
            ("location: {longitude: 1, latitude: 91, height: 0}", "record.location.latitude: expected a number from -90 to 90"),
            ("columns: {colour: {value: red}}", "record.columns.colour: is no column that the YAML fills; expected instrument, telescope"),
            ("columns: {day_obs: {value: 1}}", "record.columns.day_obs: is no column that the YAML fills"),
            ("columns: {focus: {}}", "expected one of from, value and template; found none"),
            ("columns: {focus: {from: F, value: 1}}", "expected one of from, value and template; found from and value"),
            ("columns: {focus: {from: F, unit: furlong}}", "focus.unit: expected m or mm or um or cm; found 'furlong'"),
            ("columns: {telescope: {from: F, unit: m}}", "telescope.unit: expected none; found 'm'"),
            ("columns: {focus: {value: near}}", "focus.value: 'near' is no number"),
            ("columns: {seq_num: {from: F, words: {one: first}}}", "words.one: 'first' is no number"),
            ("columns: {focus: {value: 1, unit: mm}}", "focus.unit: is for what a keyword tells; expected from"),
            ("columns: {seq_num: {from: F, pattern: '('}}", "seq_num.pattern: is no regular expression"),
            ("columns: {seq_num: {from: F, pattern: '.*'}}", "seq_num.pattern: expected one group, in parentheses"),
            ("columns: {focus: {template: '{seq_num}'}}", "focus.template: is for text and whole numbers"),
            ("columns: {seq_num: {template: '{exposure_id}'}}", "seq_num.template: expected no other fields than {day_obs}, as in"),
            ("columns: {group_id: {template: '{night}'}}", "group_id.template: expected no other fields than {day_obs}, {seq_num}, {exp"),
            ("columns: {focus: {from: LOWER-CASE}}", "a FITS keyword"),
        )),

        ("match: time", "match: [time", 25, "is no YAML"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line_with_file_line_and_what_was_expected(old, new, line, told):
    assert old in GOOD
    with pytest.raises(ConfigurationError) as caught:
        read_instrument(GOOD.replace(old, new, 1), "my.yaml")
    message = str(caught.value)
    assert message.startswith(f"my.yaml:{line}: "), message
    assert told in message
    assert "\n" not in message


def test_an_instrument_needs_an_origin():
    with pytest.raises(ConfigurationError, match="origins: expected at least one origin"):
        read_instrument("instrument: none\nfilename: a.fits\norigins: {}\n", "my.yaml")


def test_a_card_that_two_snapshots_both_prefer_is_refused():
    text = GOOD.replace("type: float}", "type: float, prefer: true}").replace(
        "telemetry:", "  end:\n    keywords:\n      TEMP: {from: met.TEMP, prefer: true}\ntelemetry:"
    )
    with pytest.raises(ConfigurationError, match=r"my\.yaml:\d+: .*prefer: snapshot .* is preferred too"):
        read_instrument(text, "my.yaml")


@given(st.text(max_size=300))
def test_any_text_is_an_instrument_or_one_clear_error(text):
    try:
        read_instrument(text, "my.yaml")
    except ConfigurationError as error:
        told = str(error)
    else:
        return
    assert told.startswith("my.yaml:")
    assert "\n" not in told


@pytest.mark.parametrize(
    "text",
    [
        "&a [*a]",
        "a: &a {b: *a}",
        "[" * 900 + "]" * 900,
        "[\n" * 200_000,
        "[" * 200_000,
        "- " * 2000 + "x",
        "- " * 100_000 + "x",
        "? " * 2000,
    ],
    ids=["alias in itself", "mapping in itself", "deep", "brackets of lines", "brackets", "dashes", "many dashes", "questions"],
)
def test_what_is_nested_without_end_is_one_line(text):
    with pytest.raises(ConfigurationError, match=r"x\.yaml:\d+: "):
        read_instrument(text, "x.yaml")


def test_aliases_that_multiply_are_stopped():
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{b}: &{b} [{', '.join(['*' + a] * 10)}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)
    )
    with pytest.raises(ConfigurationError, match="nodes"):
        read_instrument(bomb, "bomb.yaml")


def test_a_file_that_is_not_there_is_one_clear_error(tmp_path):
    with pytest.raises(ConfigurationError, match=r"nothing\.yaml: cannot be read"):
        load_instrument(tmp_path / "nothing.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"instrument: \xe9")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_instrument(tmp_path / "latin.yaml")


def test_the_shipped_yaml_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_instrument(default_instrument()).name == "KPF"
    (tmp_path / "prefixes.yaml").write_text(GOOD)
    assert load_instrument(default_instrument()).name == "test"


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=os.path.basename)
def test_the_examples_are_right(path):
    assert load_instrument(path).origins


class TestMemory:
    """What was checked is remembered, and never instead of what the file says."""

    @pytest.fixture
    def yaml(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        path = tmp_path / "my.yaml"
        path.write_text(GOOD)
        return path

    @pytest.fixture
    def unchecked(self, monkeypatch):
        """Fail whoever checks a YAML again."""
        monkeypatch.setattr("assembler.instruments.read_instrument", None)

    @pytest.mark.parametrize("path", [ROOT / "prefixes.yaml", *(ROOT / "examples").glob("*.yaml")], ids=os.path.basename)
    def test_an_instrument_goes_through_json_and_back(self, path):
        instrument = load_instrument(path)
        plain = json.loads(json.dumps(asdict(instrument) | {"shared": sorted(instrument.shared)}))
        assert instrument_from(plain) == instrument

    def test_the_second_time_it_is_not_checked_again(self, yaml, unchecked, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr("assembler.instruments.read_instrument", read_instrument)
            first = load_instrument(yaml)
        assert load_instrument(yaml) == first

    def test_a_changed_file_is_checked_again(self, yaml):
        assert load_instrument(yaml).name == "test"
        yaml.write_text(GOOD.replace("instrument: test", "instrument: TEST"))
        assert load_instrument(yaml).name == "TEST"
        yaml.write_text(GOOD.replace("prefix: ON", "prefix: ONE"))
        with pytest.raises(ConfigurationError, match="two upper-case letters"):
            load_instrument(yaml)

    @pytest.mark.parametrize("damage", ["", "[]", "{}", "null", "not JSON", "\udcff"])
    def test_a_memory_that_is_damaged_is_none(self, yaml, damage):
        expected = load_instrument(yaml)
        (memory,) = (yaml.parent / "cache" / "l0-assembler").iterdir()
        whole = memory.read_text()
        for text in (damage, whole.replace('"prefix": "ON"', '"prefix": {}'), whole[:-20], whole.replace('"origins"', '"x"')):
            memory.write_text(text, errors="surrogateescape")
            assert load_instrument(yaml) == expected

    def test_where_nothing_can_be_remembered_it_works_all_the_same(self, yaml, tmp_path, monkeypatch):
        (tmp_path / "file").write_text("")
        for cache in (str(tmp_path / "file"), "relative", "/proc/nowhere"):
            monkeypatch.setenv("XDG_CACHE_HOME", cache)
            assert load_instrument(yaml) == load_instrument(yaml)
        assert not (tmp_path / "relative").exists()


class TestKpf:
    def test_five_origins_with_their_prefixes(self, kpf):
        assert {o.name: o.prefix for o in kpf.origins} == {"green": "GR", "red": "RD", "ca_hk": "HK", "expmeter": "EM", "guide": "GC"}

    def test_every_telemetry_card_has_one_writer_and_every_table_row_a_description(self, kpf):
        assert len(writers(kpf)) == 215
        assert len(kpf.table) == 123
        assert all(k.comment for k in kpf.table)

    def test_renames_are_made_only_where_the_rule_would_collide(self, kpf):
        telemetry = set(writers(kpf))
        for origin in kpf.origins:
            header = {keyword_of(card) for card in kpf_night.header_cards(origin.name)}
            ruled = [rule_name(origin.prefix, keyword) for keyword in header - {"COMMENT", "HISTORY"}]
            for keyword in origin.renames:
                name = rule_name(origin.prefix, keyword)
                assert ruled.count(name) > 1 or name in telemetry, keyword
