"""The YAML of an archive's rules, and the shipped one of KPF: each of its rules refuses an L0 that breaks it, and no other L0."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import memory
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assembler.archive_rules import default_rules, load_rules, read_rules
from assembler.core.cards import Value, keyword_of, text_of, write_card
from assembler.core.exposure import Hdu, collect
from assembler.core.rules import KeywordRules, Rules, When, broken_rules, rule_names
from assembler.core.samples import Answers
from assembler.errors import ConfigurationError
from assembler.fits.blocks import scan

ROOT = Path(__file__).parent.parent
SHIPPED = load_rules(ROOT / "archive.yaml")
NAME = "KP.20240422.28832.89.fits"
WRONG = {"text": 5, "integer": "5", "real": "5", "logical": 1}
"""For each type a value that is of another."""

GOOD = r"""
archive: KOA
decimals: 5
name: {template: "KP.{date}.{seconds}.fits", keyword: OFNAME, begin: DATE-BEG, date: DATE-OBS}
forbidden: [KOAID]
warn: [width OBJECT, hdu GREEN_AMP1]
primary:
  OBJECT: {type: text, width: 128, required: true}
  TARGNAME: {type: text, required: {IMTYPE: [Object, Sky], GREEN: YES}, undefined: true}
  EQUINOX: {type: real, width: 16, min: 1855, max: 2100}
  L0VER: {type: integer, min: 1, values: [1, 2]}
  UT: {type: text, pattern: '\d\d:\d\d:\d\d'}
  EXTEND: {type: logical, values: [true], undefined: false}
  ANY: {}
extensions:
  CARDS: {required: true}
  GREEN_AMP1: {required: {GREEN: YES}, keywords: {GAIN02: {type: integer}}}
"""


@pytest.fixture(scope="module")
def plans(kpf) -> dict[int, tuple[Hdu, ...]]:
    """Return the HDUs of L0s of the fixtures' exposure, by the number of amplifiers."""
    return {n: planned(memory.plan_of(kpf, collect(kpf, memory.kpf_subs(0, amplifiers=n)))) for n in (2, 4)}


def planned(plan) -> tuple[Hdu, ...]:
    return tuple(Hdu(index=i, images=h.cards, offset=0, length=0, header_sum=0) for i, h in enumerate(plan.hdus))


class TestShipped:
    @pytest.mark.parametrize("amplifiers", [2, 4])
    def test_an_l0_breaks_none(self, plans, amplifiers):
        assert broken_rules(SHIPPED, plans[amplifiers], NAME) == ()

    def test_an_l0_in_a_file_is_refused_for_none(self, l0):
        assert [b for b in broken_rules(SHIPPED, scan(str(l0)).hdus, l0.name) if b.refuses] == []

    def test_an_l0_without_telemetry_is_refused_for_what_it_cannot_be_found_by(self, kpf):
        hdus = planned(memory.plan_of(kpf, collect(kpf, memory.kpf_subs()), Answers()))
        assert [b.rule for b in broken_rules(SHIPPED, hdus, NAME)] == [
            f"required {k}" for k in ("DATE-OBS", "UT", "ELAPSED", "EXPTIME", "INSTRUME", "IMTYPE", "OBJECT", "PROGNAME")
        ]

    @pytest.mark.parametrize("origin", ["green", "red", "ca_hk", "expmeter", "guide"])
    def test_an_l0_without_one_camera_breaks_none(self, kpf, origin):
        subs = memory.kpf_subs()
        del subs[origin]
        plan = memory.plan_of(kpf, collect(kpf, subs))
        assert broken_rules(SHIPPED, planned(plan), plan.filename) == ()

    def test_a_calibration_needs_no_target(self, plans):
        hdus = without(plans[2], "PRIMARY", "TARGNAME", "RA", "DEC", "EQUINOX")
        assert len(broken_rules(SHIPPED, hdus, NAME)) == 4
        assert broken_rules(SHIPPED, carrying(hdus, "PRIMARY", "IMTYPE", "Bias"), NAME) == ()

    @pytest.mark.parametrize("rule", rule_names(SHIPPED))
    def test_an_l0_that_breaks_a_rule_is_refused_with_its_name(self, plans, rule):
        hdus, filename = break_rule(SHIPPED, rule, plans[4])
        told = broken_rules(SHIPPED, hdus, filename)
        (mine,) = [b for b in told if b.rule == rule]
        assert mine.refuses == (rule not in ("width OUTDIR", "width GREENFN", "width REDFN", "values IMTYPE"))
        about = rule.partition(" ")[2]
        assert mine.keyword in about
        assert (mine.keyword or mine.extension) in mine.message or rule == "name template"
        # What else is told is of the same card, unless that is what other rules go by.
        others = {(b.extension, b.keyword) for b in told} - {(mine.extension, mine.keyword)}
        assert others == ({("PRIMARY", "OFNAME")} if rule == "name template" else set())

    def test_there_are_rules_of_every_kind(self):
        kinds = "name forbidden required duplicate undefined type width range values pattern hdu"
        assert {rule.split()[0] for rule in rule_names(SHIPPED)} == set(kinds.split())


def break_rule(rules: Rules, rule: str, hdus: tuple[Hdu, ...]) -> tuple[tuple[Hdu, ...], str]:
    """Return an L0 with one card changed, or one HDU, or another name, so that it breaks a rule."""
    kind, _, about = rule.partition(" ")
    if kind == "name":
        other: dict[str, Value] = {"OFNAME": "KP.20240422.28832.88.fits", "DATE-BEG": "2024-04-22T08:00:33.886", "DATE-OBS": "2024-04-21"}
        return (hdus, "l0.fits") if about == "template" else (carrying(hdus, "PRIMARY", about, other[about]), NAME)
    if kind == "forbidden":
        return carrying(hdus, "PRIMARY", about, "x"), NAME
    if kind == "hdu":
        (mine,) = [h for h in hdus if h.extname == about]
        (asked,) = [e for e in rules.extensions if e.name == about]
        return (*hdus, mine) if asked.required is None else tuple(h for h in hdus if h is not mine), NAME
    extension, _, keyword = about.rpartition(".")
    sections = {"": rules.primary} | {e.name: e.keywords for e in rules.extensions}
    (asked_of,) = [k for k in sections[extension] if k.keyword == keyword]
    extension = extension or "PRIMARY"
    if kind == "required":
        return without(hdus, extension, keyword), NAME
    if kind == "duplicate":
        hdus = hdus if has(hdus, extension, keyword) else carrying(hdus, extension, keyword, None)
        return twice(hdus, extension, keyword), NAME
    return carrying(hdus, extension, keyword, breaking(asked_of, kind)), NAME


def breaking(rule: KeywordRules, kind: str) -> Value:
    """Return a value that breaks one kind of rule."""
    if kind == "undefined":
        return None
    if kind == "type":
        assert rule.type
        return WRONG[rule.type]
    if kind == "width":
        assert rule.width
        many = rule.width + 1
        return {"text": "x" * many, "integer": 10**rule.width, "real": 10.0**many}[rule.type or ""]
    if kind == "range":
        return rule.minimum - 1 if rule.minimum is not None else (rule.maximum or 0) + 1
    return "no such"


def has(hdus: tuple[Hdu, ...], extension: str, keyword: str) -> bool:
    return any(h.record(keyword) for h in hdus if (h.extname or "PRIMARY") == extension)


def changed(hdus: tuple[Hdu, ...], extension: str, change: Callable[[list[str]], list[str]]) -> tuple[Hdu, ...]:
    return tuple(replace(h, images=tuple(change(list(h.images)))) if (h.extname or "PRIMARY") == extension else h for h in hdus)


def without(hdus: tuple[Hdu, ...], extension: str, *keywords: str) -> tuple[Hdu, ...]:
    return changed(hdus, extension, lambda images: [i for i in images if keyword_of(i) not in keywords])


def carrying(hdus: tuple[Hdu, ...], extension: str, keyword: str, value: Value) -> tuple[Hdu, ...]:
    """Return the HDUs with a card in place of the one that an extension has, or behind its others."""
    return changed(without(hdus, extension, keyword), extension, lambda images: [*images, *write_card(keyword, text_of(value))])


def twice(hdus: tuple[Hdu, ...], extension: str, keyword: str) -> tuple[Hdu, ...]:
    return changed(hdus, extension, lambda images: [*images, *(i for i in images if keyword_of(i) == keyword)])


class TestReading:
    def test_what_is_right_becomes_values(self):
        rules = read_rules(GOOD, "my.yaml")
        assert (rules.archive, rules.decimals, rules.forbidden) == ("KOA", 5, ("KOAID",))
        assert rules.warnings == {"width OBJECT", "hdu GREEN_AMP1"}
        assert (rules.name.template, rules.name.keyword, rules.name.begin) == ("KP.{date}.{seconds}.fits", "OFNAME", "DATE-BEG")
        assert (rules.name.date, rules.name.frame) == ("DATE-OBS", "")
        target, equinox, version, ut, extend, anything = rules.primary[1:]
        assert rules.primary[0] == KeywordRules(keyword="OBJECT", type="text", width=128, required=())
        assert target.required == (When(keyword="IMTYPE", values=("Object", "Sky")), When(keyword="GREEN", values=("YES",)))
        assert target.undefined is True
        assert (equinox.minimum, equinox.maximum, version.values, ut.pattern) == (1855, 2100, (1, 2), r"\d\d:\d\d:\d\d")
        assert (extend.values, extend.undefined, anything) == ((True,), False, KeywordRules(keyword="ANY"))
        cards, green = rules.extensions
        assert (cards.name, cards.required, cards.keywords) == ("CARDS", (), ())
        assert (green.required, green.keywords) == (
            (When(keyword="GREEN", values=("YES",)),),
            (KeywordRules(keyword="GAIN02", type="integer"),),
        )

    def test_an_archive_may_have_no_rules(self):
        assert rule_names(read_rules("archive: none", "my.yaml")) == ()

    @pytest.mark.parametrize(
        ("old", "new", "line", "told"),
        [
            ("archive: KOA", "archives: KOA", 2, "archives: is not known; expected archive, instrument, decimals, name"),
            ("archive: KOA", "archive: ' '", 2, "archive: expected the archive's name"),
            ("decimals: 5", "place: '{date}'", 3, "place: expected folders and {name}, such as {date}/{name}; the template '{date}'"),
            ("decimals: 5", "decimals: -1", 3, "decimals: expected a whole number from 0 to 20, found -1"),
            ("decimals: 5\n", "", 9, "primary.EQUINOX.width: expected decimals at the top of the file"),
            ("KP.{date}", "KP.{day}", 4, "name.template: expected a file name with {date}, {seconds}"),
            ("KP.{date}", "KP.{date}.{date}", 4, "name.template: expected each of {date}, {seconds}, {frame} and {stem} once"),
            ("KP.{date}.{seconds}", "{stem}", 4, "name.begin: expected a template with {date} or {seconds} to compare DATE-BEG with"),
            ("KP.{date}.", "KP.", 4, "name.date: expected a template with {date} to compare DATE-OBS with"),
            ("date: DATE-OBS", "frame: FRAMENO", 4, "name.frame: expected a template with {frame} to compare FRAMENO with"),
            ("keyword: OFNAME", "keywords: OFNAME", 4, "name.keywords: is not known; expected template, keyword, begin, date, frame"),
            ("[KOAID]", "[koaid]", 5, "forbidden[0]: expected a FITS keyword"),
            ("[KOAID]", "[KOAID, UT]", 5, "forbidden[1]: UT is asked for under primary"),
            ("[KOAID]", "[HISTORY]", 5, "forbidden[0]: HISTORY has no value"),
            ("[width OBJECT, ", "[width OBJEKT, ", 6, "warn[0]: expected the name of a rule of this file, for example "),
            ("  OBJECT: {", "  OBJECTNAME: {", 8, "primary.OBJECTNAME: expected a FITS keyword"),
            ("  OBJECT: {", "  COMMENT: {", 8, "primary.COMMENT: a COMMENT card has no value"),
            ("type: text, width: 128", "typ: text, width: 128", 8, "typ: is not known; expected type, required, undefined"),
            ("type: text, width: 128", "type: str, width: 128", 8, "OBJECT.type: expected 'text', 'integer', 'real' or 'logical'"),
            ("type: text, width: 128", "width: 128", 8, "OBJECT.width: expected type text, integer or real where there is a width"),
            ("width: 128", "width: wide", 8, "OBJECT.width: expected a whole number, found 'wide'"),
            ("width: 128", "width: 0", 8, "OBJECT.width: expected a whole number from 1 to 100000, found 0"),
            ("width: 128", "min: 1", 8, "OBJECT.min: expected type integer or real where there is a range"),
            ("required: true}", "required: yes}", 8, "OBJECT.required: expected true, false, or keywords with the values"),
            ("required: true}", "required: {}}", 8, "OBJECT.required: expected true, false, or keywords with the values"),
            ("required: true}", "required: {imtype: Object}}", 8, "OBJECT.required: expected true, false, or keywords with the values"),
            ("[Object, Sky]", "[]", 9, "TARGNAME.required: expected a value, or a list of values"),
            ("[Object, Sky]", "[null]", 9, "TARGNAME.required: expected printable ASCII, a number, true or false"),
            ("undefined: true", "undefined: 1", 9, "TARGNAME.undefined: expected true or false, found 1"),
            ("min: 1855", "min: low", 10, "EQUINOX.min: expected a number, found 'low'"),
            ("min: 1855", "min: true", 10, "EQUINOX.min: expected a number, found True"),
            ("max: 2100", "max: 1800", 10, "EQUINOX.max: expected at least 1855, found 1800"),
            ("values: [1, 2]", "values: 1", 11, "L0VER.values: expected a list of values, found 1"),
            ("values: [1, 2]", "values: []", 11, "L0VER.values: expected a value, or a list of values"),
            ("values: [1, 2]", "values: [1, two]", 11, "L0VER.values[1]: expected a whole number, found 'two'"),
            ("values: [1, 2]", "values: ['21 µm']", 11, "L0VER.values: expected printable ASCII, a number, true or false"),
            (r"'\d\d:\d\d:\d\d'", "'(a+)+'", 12, "UT.pattern: expected a pattern; a group may be repeated by ? only, found '(a+)+'"),
            (r"'\d\d:\d\d:\d\d'", "'['", 12, "UT.pattern: expected a pattern; "),
            (r"'\d\d:\d\d:\d\d'", "''", 12, "UT.pattern: expected a pattern; there is none"),
            ("{type: text, pattern", "{type: real, pattern", 12, "UT.pattern: expected type text where there is a pattern"),
            ("  ANY: {}", "  ANY:", 14, "primary.ANY: expected a mapping"),
            ("  ANY: {}", "  UT: {}", 14, "primary.UT: the key 'UT' stands here again"),
            ("  CARDS: {", "  cards: {", 16, "extensions.cards: expected an extension name"),
            ("  CARDS: {", "  PRIMARY: {", 16, "extensions.PRIMARY: what is asked of the primary is under primary"),
            ("keywords: {GAIN02: {type: integer}}", "keyword: {}", 17, "keyword: is not known; expected required, keywords"),
            ("{GAIN02: {type: integer}}", "{GAIN02: {width: 3}}", 17, "extensions.GREEN_AMP1.keywords.GAIN02.width: expected type"),
        ],
    )  # fmt: skip
    def test_what_is_wrong_is_one_line_with_file_line_and_what_was_expected(self, old, new, line, told):
        assert old in GOOD
        with pytest.raises(ConfigurationError) as caught:
            read_rules(GOOD.replace(old, new, 1), "c/my.yaml")
        message = str(caught.value)
        assert message.startswith(f"c/my.yaml:{line}: "), message
        assert told in message
        assert "\n" not in message

    @given(
        st.text(max_size=200)
        | st.text(max_size=60).map(lambda t: GOOD.replace("OBJECT", t, 2))
        | st.text(max_size=30).map(lambda t: GOOD.replace("text", t, 1))
    )
    def test_any_text_is_rules_or_one_clear_error(self, text):
        try:
            read_rules(text, "my.yaml")
        except ConfigurationError as error:
            told = str(error)
        else:
            return
        assert told.startswith("my.yaml:")
        assert "\n" not in told

    def test_a_file_that_cannot_be_read_is_one_line(self, tmp_path):
        for path in (tmp_path / "none.yaml", tmp_path):
            with pytest.raises(ConfigurationError, match=rf"^{re.escape(str(path))}: cannot be read: "):
                load_rules(path)

    def test_the_rules_that_go_with_an_instrument_are_beside_its_yaml(self, tmp_path):
        assert default_rules(ROOT / "prefixes.yaml") == ROOT / "archive.yaml"
        assert default_rules(tmp_path / "my.yaml") is None
        (tmp_path / "archive.yaml").write_text("archive: mine")
        assert default_rules(tmp_path / "my.yaml") == tmp_path / "archive.yaml"
