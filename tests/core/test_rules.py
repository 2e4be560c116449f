"""An archive's rules: each is broken by what breaks it, under its name, and by nothing else."""

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from assembler.core.cards import text_of, write_card
from assembler.core.exposure import Exposure, Hdu
from assembler.core.instants import DAY, SECOND, format_iso, parse_iso
from assembler.core.plan import l0_name
from assembler.core.rule_names import NameRules
from assembler.core.rule_values import is_of_kind, width_of
from assembler.core.rules import ExtensionRules, KeywordRules, Rules, When, broken_rules, rule_names

VALUES = (
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=200)
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
)
"""Whatever a card may hold."""


def hdu(*cards: tuple[str, object], images: tuple[str, ...] = (), index: int = 0) -> Hdu:
    written = [image for keyword, value in cards for image in write_card(keyword, text_of(value))]
    return Hdu(index=index, images=(*written, *images), offset=0, length=0, header_sum=0)


def extension(name: str, *cards: tuple[str, object]) -> Hdu:
    return hdu(("EXTNAME", name), *cards, index=1)


def broken(rules, *hdus: Hdu, filename: str = "a.fits") -> list[str]:
    told = broken_rules(rules, hdus, filename)
    assert all(rule.rule in rule_names(rules) for rule in told)
    assert all(text.isprintable() for rule in told for text in (rule.rule, rule.extension, rule.keyword, rule.message))
    return [rule.rule for rule in told]


def asked(keyword: str = "A", **given) -> Rules:
    return Rules(archive="KOA", decimals=5, primary=(KeywordRules(keyword=keyword, **given),))


class TestKeywords:
    @pytest.mark.parametrize(
        ("rule", "value", "kinds"),
        [
            ({"required": ()}, 1, []),
            ({"required": ()}, None, ["undefined"]),
            ({"required": ()}, "   ", ["undefined"]),
            ({"required": (), "undefined": True}, None, []),
            ({}, None, []),
            ({"undefined": False}, None, ["undefined"]),
            ({"type": "text"}, "1", []),
            ({"type": "text"}, 1, ["type"]),
            ({"type": "text"}, None, []),
            ({"type": "integer"}, 1, []),
            ({"type": "integer"}, 1.0, ["type"]),
            ({"type": "integer"}, True, ["type"]),
            ({"type": "real"}, 1.0, []),
            ({"type": "real"}, 1, []),
            ({"type": "real"}, True, ["type"]),
            ({"type": "real"}, "1.0", ["type"]),
            ({"type": "logical"}, False, []),
            ({"type": "logical"}, 0, ["type"]),
            ({"type": "logical"}, "T", ["type"]),
            ({"type": "text", "width": 3}, "KPF", []),
            ({"type": "text", "width": 3}, "KPF4", ["width"]),
            ({"type": "integer", "width": 3}, -99, []),
            ({"type": "integer", "width": 3}, -999, ["width"]),
            ({"type": "real", "width": 8}, 99.0, []),
            ({"type": "real", "width": 8}, 0.5879529999999999, []),
            ({"type": "real", "width": 8}, 99.999999, ["width"]),
            ({"type": "real", "width": 8}, 999, ["width"]),
            ({"type": "real", "width": 8}, 1e300, ["width"]),
            ({"type": "real", "minimum": 1}, 1, []),
            ({"type": "real", "minimum": 1}, 0.999, ["range"]),
            ({"type": "real", "maximum": 40}, 40.0, []),
            ({"type": "real", "maximum": 40}, 41, ["range"]),
            ({"values": ("YES", "NO")}, "YES", []),
            ({"values": ("YES", "NO")}, "yes", ["values"]),
            ({"values": (1,)}, 1.0, []),
            ({"values": (1,)}, True, ["values"]),
            ({"type": "text", "pattern": r"\d\d:\d\d"}, "08:00", []),
            ({"type": "text", "pattern": r"\d\d:\d\d"}, "08:00:32", ["pattern"]),
            ({"type": "text", "width": 2, "values": ("a",), "pattern": "a"}, "bcd", ["width", "values", "pattern"]),
            ({"type": "text", "width": 2, "values": ("a",), "pattern": "a"}, 5, ["type"]),
        ],
    )
    def test_a_value_breaks_what_it_breaks(self, rule, value, kinds):
        assert broken(asked(**rule), hdu(("A", value))) == [f"{kind} A" for kind in kinds]

    def test_a_number_too_large_for_any_double_is_no_real(self):
        (told,) = broken_rules(asked(type="real"), [hdu(images=("A       = 1E999".ljust(80),))], "a.fits")
        assert (told.rule, told.message) == ("type A", "A is a number that is too large, expected a number")

    def test_a_keyword_may_stand_once(self):
        assert broken(asked(), hdu(("A", 1), ("B", 1), ("A", 1))) == ["duplicate A"]

    def test_of_two_cards_the_first_is_looked_at(self):
        assert broken(asked(type="text"), hdu(("A", 1), ("A", "x"))) == ["duplicate A", "type A"]

    def test_a_required_keyword_that_is_not_there_breaks_that_rule_only(self):
        assert broken(asked(required=(), type="text", width=3, values=("a",), pattern="a"), hdu()) == ["required A"]

    def test_what_is_required_may_depend_on_others(self):
        rules = asked(required=(When(keyword="IMTYPE", values=("Object", "Sky")), When(keyword="GREEN", values=("YES",))))
        there = [("IMTYPE", "Sky"), ("GREEN", "YES")]
        (told,) = broken_rules(rules, [hdu(*there)], "a.fits")
        assert (told.rule, told.extension, told.keyword) == ("required A", "PRIMARY", "A")
        assert told.message == "A is not there, although IMTYPE is 'Object' or 'Sky' and GREEN is 'YES'"
        assert broken(rules, hdu(*there, ("A", None))) == ["undefined A"]
        assert broken(rules, hdu(*there, ("A", 1))) == []
        assert broken(rules, hdu(("IMTYPE", "Bias"), ("GREEN", "YES"))) == []
        assert broken(rules, hdu(("IMTYPE", "Bias"), ("GREEN", "YES"), ("A", None))) == []
        assert broken(rules, hdu(("GREEN", "YES"))) == []

    def test_a_forbidden_keyword_may_not_even_be_undefined(self):
        rules = Rules(archive="KOA", forbidden=("KOAID", "PROGPI"))
        assert broken(rules, hdu(("KOAID", None))) == ["forbidden KOAID"]
        assert broken(rules, hdu(("OBJECT", 1)), extension("X", ("KOAID", "x"))) == []

    def test_a_long_string_counts_whole(self):
        assert broken(asked(type="text", width=200), hdu(("A", "x" * 200))) == []
        assert broken(asked(type="text", width=200), hdu(("A", "x" * 201))) == ["width A"]

    def test_a_message_shows_no_more_of_a_value_than_is_of_use(self):
        (told,) = broken_rules(asked(type="integer"), [hdu(("A", "x" * 5000))], "a.fits")
        assert len(told.message) < 200

    def test_a_rule_that_only_warns_is_told_and_does_not_refuse(self):
        rules = replace(asked(type="text", width=3), warnings=frozenset({"width A"}))
        assert [(b.rule, b.refuses) for b in broken_rules(rules, [hdu(("A", "long"))], "a.fits")] == [("width A", False)]
        assert [(b.rule, b.refuses) for b in broken_rules(rules, [hdu(("A", 1))], "a.fits")] == [("type A", True)]

    @given(VALUES, st.sampled_from(["text", "integer", "real", "logical"]))
    def test_a_value_is_of_the_type_that_its_card_has(self, value, kind):
        assume(not (isinstance(value, str) and not value.strip()))
        wanted = {"text": str, "integer": int, "real": (int, float), "logical": bool}[kind]
        fits = isinstance(value, wanted) and (isinstance(value, bool) == (kind == "logical"))
        assert broken(asked(type=kind), hdu(("A", value))) == ([] if fits else ["type A"])
        assert is_of_kind(kind, value) == fits

    @given(VALUES, st.integers(1, 80))
    def test_what_is_stored_fits_exactly_where_the_width_says_so(self, value, width):
        assume(not isinstance(value, bool))
        assume(not (isinstance(value, str) and not value.strip()))
        kind = {str: "text", int: "integer", float: "real"}[type(value)]
        stored = value.rstrip(" ") if isinstance(value, str) else f"{value:.5f}" if isinstance(value, float) else str(value)
        assert width_of(value, 5) == len(stored)
        assert broken(asked(type=kind, width=width), hdu(("A", value))) == (["width A"] if len(stored) > width else [])

    @given(st.integers(-1000, 1000) | st.floats(-1000, 1000), *[st.integers(-1000, 1000) | st.floats(-1000, 1000) | st.none()] * 2)
    def test_a_range_has_both_its_ends(self, value, minimum, maximum):
        low, high = (minimum is not None and value < minimum), (maximum is not None and value > maximum)
        told = broken(asked(type="real", minimum=minimum, maximum=maximum), hdu(("A", value)))
        assert told == ["range A"] * (low + high)

    @given(st.lists(st.text(st.characters(max_codepoint=255), min_size=80, max_size=80), max_size=5), st.text())
    def test_any_header_and_name_is_judged(self, images, filename):
        rules = Rules(
            archive="KOA",
            decimals=5,
            name=NameRules(template="{stem}.{date}.{seconds}.{frame}", keyword="OFNAME", begin="A", date="A", frame="A"),
            primary=tuple(KeywordRules(keyword=k, type="real", width=5, minimum=0, values=(1,)) for k in ("A", "")),
            extensions=(ExtensionRules(name="X", required=()),),
        )
        broken(rules, hdu(images=tuple(images)), filename=filename)
        broken(rules, filename=filename)


class TestExtensions:
    RULES = Rules(
        archive="KOA",
        extensions=(
            ExtensionRules(name="CARDS", required=()),
            ExtensionRules(
                name="AMP1",
                required=(When(keyword="GREEN", values=("YES",)),),
                keywords=(KeywordRules(keyword="GAIN", type="integer", required=()),),
            ),
        ),
    )

    def test_one_that_must_be_there_is_told_when_it_is_not(self):
        (told,) = broken_rules(self.RULES, [hdu()], "a.fits")
        assert (told.rule, told.extension, told.keyword, told.message) == ("hdu CARDS", "CARDS", "", "CARDS is not there")

    def test_whether_it_must_be_there_may_depend_on_the_primary(self):
        there = extension("CARDS")
        assert broken(self.RULES, hdu(("GREEN", "NO")), there) == []
        assert broken(self.RULES, hdu(("GREEN", "YES")), there) == ["hdu AMP1"]

    def test_its_keywords_are_told_with_its_name(self):
        (told,) = broken_rules(self.RULES, [hdu(), extension("CARDS"), extension("AMP1", ("GAIN", "x"))], "a.fits")
        assert (told.rule, told.extension, told.keyword) == ("type AMP1.GAIN", "AMP1", "GAIN")
        assert broken(self.RULES, hdu(), extension("CARDS"), extension("AMP1")) == ["required AMP1.GAIN"]

    def test_it_is_there_once(self):
        assert broken(self.RULES, hdu(), extension("CARDS"), extension("CARDS")) == ["hdu CARDS"]


class TestNames:
    RULES = Rules(archive="KOA", name=NameRules(template="KP.{date}.{seconds}.fits", keyword="OFNAME", begin="DATE-BEG", date="DATE-OBS"))

    def told(self, filename: str = "KP.20240422.28832.89.fits", **cards: object) -> list[str]:
        values = {"OFNAME": filename, "DATE-BEG": "2024-04-22T08:00:32.886179", "DATE-OBS": "2024-04-22"}
        values |= {keyword.replace("_", "-"): value for keyword, value in cards.items()}
        return broken(self.RULES, hdu(*((k, v) for k, v in values.items() if v != "ABSENT")), filename=filename)

    def test_the_right_one_breaks_nothing(self):
        assert self.told() == []

    @pytest.mark.parametrize("filename", ["KP.20240422.28832.89.fit", "kp.20240422.28832.89.fits", "KP.2024042.28832.89.fits", ""])
    def test_one_of_another_form_is_told_and_compared_no_more(self, filename):
        assert self.told(filename) == ["name template"]

    def test_one_that_no_card_can_hold_is_told(self):
        assert self.told("KP\n.fits") == ["name template", "name OFNAME"]

    def test_one_that_ofname_does_not_tell(self):
        assert self.told(OFNAME="KP.20240422.28832.88.fits") == ["name OFNAME"]
        assert self.told(OFNAME="ABSENT") == ["name OFNAME"]
        assert self.told(OFNAME=5) == ["name OFNAME"]

    @pytest.mark.parametrize(
        "begin", ["2024-04-22T08:00:32.884", "2024-04-21T08:00:32.886179", "2024-04-22", "soon", "", None, 5, "ABSENT"]
    )
    def test_one_whose_date_or_seconds_are_not_those_of_the_begin(self, begin):
        assert self.told(DATE_BEG=begin) == ["name DATE-BEG"]

    def test_rounding_carries_over_midnight(self):
        begin = "2024-04-21T23:59:59.997"
        assert self.told("KP.20240422.00000.00.fits", DATE_BEG=begin) == []
        assert self.told("KP.20240421.86400.00.fits", DATE_BEG=begin) == ["name DATE-BEG"]
        assert self.told("KP.20240421.86399.99.fits", DATE_BEG=begin) == ["name DATE-BEG"]

    @pytest.mark.parametrize("date", ["2024-04-23", "2024-04-21", "22/04/24", "2024-04-22x", 20240422, True])
    def test_one_of_another_date_than_the_telescope_tells(self, date):
        assert self.told(DATE_OBS=date) == ["name DATE-OBS"]

    @pytest.mark.parametrize("date", ["ABSENT", None, "", "2024-04-22T08:00:32"])
    def test_a_date_counts_where_the_l0_has_one(self, date):
        assert self.told(DATE_OBS=date) == []

    def test_about_midnight_the_telescope_may_tell_either_day(self):
        late, early = "KP.20240422.86399.00.fits", "KP.20240423.00001.00.fits"
        for filename, begin in ((late, "2024-04-22T23:59:59"), (early, "2024-04-23T00:00:01")):
            assert self.told(filename, DATE_BEG=begin, DATE_OBS="2024-04-22") == []
            assert self.told(filename, DATE_BEG=begin, DATE_OBS="2024-04-23") == []
            assert self.told(filename, DATE_BEG=begin, DATE_OBS="2024-04-24") == ["name DATE-OBS"]

    def test_a_name_of_a_day_that_never_was_is_told(self):
        assert self.told("KP.20241399.28832.89.fits") == ["name DATE-BEG", "name DATE-OBS"]
        assert self.told("KP.20241399.28832.89.fits", DATE_OBS="2024-13-99") == ["name DATE-BEG"]

    @given(st.integers(0, 60 * 365 * DAY))
    def test_the_name_that_an_l0_gets_breaks_nothing(self, begin):
        filename = l0_name(self.RULES.name.template, begin, Exposure(frame=None, attached=(), missing=()))
        iso = format_iso(begin)
        assert parse_iso(iso) == begin
        for moment in (begin, begin + SECOND // 10):
            assert self.told(filename, DATE_BEG=iso, DATE_OBS=format_iso(moment)[:10]) == []

    def test_a_frame_number_in_the_name_is_compared(self):
        rules = Rules(archive="A", name=NameRules(template="{stem}_{frame}.fits", frame="FRAMENO"))
        assert broken(rules, hdu(("FRAMENO", 215921)), filename="kpf_215921.fits") == []
        assert broken(rules, hdu(("FRAMENO", 215922)), filename="kpf_215921.fits") == ["name FRAMENO"]
        assert broken(rules, hdu(), filename="kpf_215921.fits") == ["name FRAMENO"]


def test_every_rule_has_a_name_of_its_own():
    keyword = KeywordRules(keyword="A", type="text", required=(), width=1, values=("a",), pattern="a")
    rules = Rules(
        archive="KOA",
        name=NameRules(template="{frame}", keyword="B", begin="C", date="D", frame="E"),
        primary=(keyword, KeywordRules(keyword="N", type="real", undefined=False, minimum=1, maximum=2)),
        forbidden=("F",),
        extensions=(ExtensionRules(name="X", keywords=(keyword,)),),
    )
    assert rule_names(rules) == (
        "name template", "name B", "name C", "name D", "name E", "forbidden F",
        "required A", "duplicate A", "undefined A", "type A", "width A", "values A", "pattern A",
        "duplicate N", "undefined N", "type N", "range N",
        "hdu X", "required X.A", "duplicate X.A", "undefined X.A", "type X.A", "width X.A", "values X.A", "pattern X.A",
    )  # fmt: skip
