"""The YAML of corrections: what is right becomes values, what is wrong is one line that says where and what was expected."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assembler.core.instants import parse_iso
from assembler.corrections import load_corrections, read_corrections
from assembler.errors import ConfigurationError

GOOD = """\
corrections:
  - reason: EXPTIME of the camera is never set
    frames: 215921
    origin: green
    keyword: EXPTIME
    was: 0
    value: 30.068
  - reason: the target was typed in wrong
    frames: [215921, 215930]
    from: 2024-04-21T00:00:00
    until: 2024-04-22T12:00:00Z
    history: kpfconfig.TARGNAME
    value: "10700"
"""


@pytest.fixture
def read(kpf):
    return lambda text, name="c/my.yaml": read_corrections(text, name, kpf)


def test_what_is_right_becomes_values(read):
    card, target = read(GOOD)
    assert (card.file, card.place, card.reason) == ("my.yaml", "c/my.yaml:2", "EXPTIME of the camera is never set")
    assert (card.frames, card.origin, card.hdu, card.keyword, card.was, card.value) == ((215921,) * 2, "green", 0, "EXPTIME", (0,), 30.068)
    assert (card.since, card.until, card.history) == (None, None, "")
    assert (target.frames, target.was, target.value, target.history) == ((215921, 215930), (), "10700", "kpfconfig.TARGNAME")
    assert (target.since, target.until) == (parse_iso("2024-04-21T00:00:00"), parse_iso("2024-04-22T12:00:00"))


def test_null_is_an_undefined_card_and_no_was_is_any_value(read):
    (null,) = read("corrections:\n  - {reason: r, frames: 1, origin: red, keyword: A, was: null, value: null}\n")
    assert (null.was, null.value) == ((None,), None)


@pytest.mark.parametrize(
    ("old", "new", "line", "told"),
    [
        ("corrections:", "correction:", 1, "correction: is not known; expected corrections"),
        ("    was: 0\n", "    what: 0\n", 6, "what: is not known; expected reason, frames, from, until, origin, hdu"),
        ("reason: EXPTIME of the camera is never set", "reason: ' '", 2, "expected why"),
        ("reason: EXPTIME of the camera is never set", "reason: 21 µm", 2, "printable ASCII"),
        ("  - reason: EXPTIME of the camera is never set\n    frames", "  - frames", 2, "corrections[0].reason: is missing"),
        ("    value: 30.068\n", "", 2, "corrections[0].value: is missing"),
        ("    frames: 215921\n", "", 2, "corrections[0]: expected frames, from or until"),
        ("frames: 215921", "frames: null", 3, "expected a frame number, or [first, last]"),
        ("frames: 215921", "frames: -1", 3, "expected a frame number, or [first, last], found -1"),
        ("frames: 215921", "frames: true", 3, "expected a frame number, or [first, last], found True"),
        ("frames: [215921, 215930]", "frames: [215930, 215921]", 9, "expected a frame number, or [first, last]"),
        ("frames: [215921, 215930]", "frames: [1, 2, 3]", 9, "expected a frame number, or [first, last]"),
        ("from: 2024-04-21T00:00:00", "from: 2024-04-21", 10, "'2024-04-21' is not YYYY-MM-DDThh:mm:ss[.sss]"),
        ("from: 2024-04-21T00:00:00", "from: 2024-02-30T00:00:00", 10, "corrections[1].from: "),
        ("until: 2024-04-22T12:00:00Z", "until: 2024-04-21T00:00:00", 11, "expected a time after 2024-04-21T00:00:00"),
        ("origin: green", "origin: blue", 4, "expected an origin: green, red, ca_hk, expmeter, guide; found blue"),
        ("    origin: green\n", "", 2, "corrections[0]: expected origin and keyword, or history"),
        ("    keyword: EXPTIME\n", "", 2, "corrections[0]: expected origin and keyword, or history"),
        ("    was: 0\n", "    hdu: -1\n", 6, "expected the number of an HDU, from 0, found -1"),
        ("    was: 0\n", "    hdu: GREEN_AMP1\n", 6, "expected a whole number, found 'GREEN_AMP1'"),
        ("keyword: EXPTIME", "keyword: EXPOSURETIME", 5, "a keyword of up to 8 printable characters"),
        ("keyword: EXPTIME", "keyword: naxis1", 5, "NAXIS1 tells how the data are stored"),
        ("keyword: EXPTIME", "keyword: CHECKSUM", 5, "CHECKSUM tells how the data are stored"),
        ("keyword: EXPTIME", "keyword: TFORM3", 5, "TFORM3 tells how the data are stored"),
        ("keyword: EXPTIME", "keyword: BZERO", 5, "BZERO tells how the data are stored"),
        ("keyword: EXPTIME", "keyword: HISTORY", 5, "a HISTORY card has no value to correct"),
        ("keyword: EXPTIME", "keyword: DATE-BEG", 7, "expected YYYY-MM-DDThh:mm:ss.sss; 30.068 is no date as FITS writes it"),
        ("keyword: EXPTIME", "keyword: EXTNAME", 7, "expected text, as FITS asks for EXTNAME, found 30.068"),
        ("value: 30.068", "value: [1]", 7, "expected text, a number, true, false or null"),
        ("value: 30.068", "value: 1e999", 7, "expected text, a number, true, false or null"),
        ("value: 30.068", 'value: "two\\nlines"', 7, "expected printable ASCII of up to 500 characters"),
        ("value: 30.068", f"value: {'x' * 501}", 7, "expected printable ASCII of up to 500 characters"),
        ("was: 0", "was: {a: 1}", 6, "expected text, a number, true, false or null"),
        ("    history: kpf", "    origin: green\n    history: kpf", 13, "expected either history, or origin and keyword"),
        ("kpfconfig.TARGNAME", "kpfconfig.NOSUCH", 12, "expected a history keyword that a snapshot in"),
        ('kpfconfig.TARGNAME\n    value: "10700"', "dcs1.AIRMASS\n    value: high", 13, "expected a value of type float, which AIRMASS"),
        ("origin: green", "origin: [green", 5, "is no YAML"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line_with_file_line_and_what_was_expected(read, old, new, line, told):
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    with pytest.raises(ConfigurationError) as caught:
        read(text)
    message = str(caught.value)
    assert message.startswith(f"c/my.yaml:{line}: "), message
    assert told in message
    assert "\n" not in message


def test_a_telemetry_value_is_of_the_cards_type_however_the_yaml_writes_it(read):
    for old, new in (("kpfconfig.TARGNAME", "dcs1.AIRMASS"), ('"10700"', "1.5"), ('"10700"', "null")):
        assert len(read(GOOD.replace(old, new))) == 2


@given(st.text(max_size=200) | st.text(max_size=60).map(lambda t: GOOD.replace("EXPTIME", t, 2)))
def test_any_text_is_corrections_or_one_clear_error(kpf, text):
    try:
        read_corrections(text, "my.yaml", kpf)
    except ConfigurationError as error:
        told = str(error)
    else:
        return
    assert told.startswith("my.yaml:")
    assert "\n" not in told


def test_a_directory_is_read_in_the_order_of_names_without_what_is_hidden(kpf, tmp_path):
    for name in ("b.yaml", "a.yaml"):
        (tmp_path / name).write_text(GOOD)
    for name in (".c.yaml", "notes.txt", "a.yaml~"):
        (tmp_path / name).write_text("nonsense")
    read = load_corrections(tmp_path, kpf)
    assert [c.place for c in read] == [f"{tmp_path}/{n}" for n in ("a.yaml:2", "a.yaml:8", "b.yaml:2", "b.yaml:8")]
    assert load_corrections(tmp_path, kpf) == read


@pytest.mark.parametrize(
    ("scopes", "meet"),
    [
        (("frames: 5", "frames: [1, 9]"), True),
        (("frames: [1, 9]", "frames: 5"), True),
        (("frames: [1, 4]", "frames: [5, 9]"), False),
        (("from: '2024-01-01T00:00:00'", "until: '2024-01-01T00:00:01'"), True),
        (("from: '2024-01-01T00:00:00'", "until: '2024-01-01T00:00:00'"), False),
        (("from: '2024-01-01T00:00:00'", "frames: 5"), False),
        (("frames: 5, was: 0", "frames: 5, was: 1"), False),
        (("frames: 5, was: 0", "frames: 5, was: 0"), True),
    ],
)
def test_two_that_meet_whatever_the_exposure_are_refused(kpf, tmp_path, scopes, meet):
    for name, value, scope in zip("ab", (1, 2), scopes, strict=True):
        (tmp_path / f"{name}.yaml").write_text(f"corrections:\n  - {{reason: r, origin: red, keyword: A, value: {value}, {scope}}}\n")
    if not meet:
        assert len(load_corrections(tmp_path, kpf)) == 2
        return
    with pytest.raises(ConfigurationError, match=r"a.yaml:2 and .*b.yaml:2 both correct red HDU 0 A, to 1 and to 2; expected one of"):
        load_corrections(tmp_path, kpf)


def test_two_that_agree_may_meet(kpf, tmp_path):
    (tmp_path / "a.yaml").write_text("corrections:\n" + "  - {reason: r, origin: red, keyword: A, value: 1, frames: 5}\n" * 2)
    assert len(load_corrections(tmp_path, kpf)) == 2


def test_what_cannot_be_read_is_one_clear_error(kpf, tmp_path):
    with pytest.raises(ConfigurationError, match=r"nowhere: there is no such directory of corrections"):
        load_corrections(tmp_path / "nowhere", kpf)
    (tmp_path / "latin.yaml").write_bytes(b"corrections: \xe9")
    with pytest.raises(ConfigurationError, match=r"latin.yaml: cannot be read"):
        load_corrections(tmp_path, kpf)
    with pytest.raises(ConfigurationError, match=r"latin.yaml: cannot be read"):
        load_corrections(tmp_path / "latin.yaml", kpf)
