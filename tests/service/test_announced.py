"""Announced files: what is news, and that no broadcast ever leads out of what is watched."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from assembler.core.instants import SECOND
from assembler.core.samples import Sample
from assembler.errors import ConfigurationError, TelemetryError
from assembler.instruments import read_instrument
from assembler.service.announced import LONGEST, Announcements, Refused, accept
from assembler.service.replay import open_history
from assembler.telemetry import sqlite

NOW = 1_713_700_000 * SECOND


class History:
    """Holds the last broadcasts, and counts the questions."""

    def __init__(self, **samples: Sample) -> None:
        self.samples = {f"{name}.FITSFILE": sample for name, sample in samples.items()}
        self.questions: list[tuple[list[str], list[float]]] = []
        self.failure: TelemetryError | None = None

    def as_of(self, names, instants):
        self.questions.append((list(names), list(instants)))
        if self.failure:
            raise self.failure
        return [{n: s for n, s in self.samples.items() if n in names and s.time <= instant} for instant in instants]


@pytest.fixture(scope="module")
def green(kpf):
    return kpf.origin("green")


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """Return a partition of two nights, with links that lead out and one that does not."""
    root = tmp_path_factory.mktemp("partition").resolve()
    for night in ("2024apr20", "2024apr21"):
        for folder in ("Green", "Red"):
            (root / "kpf" / night / folder).mkdir(parents=True)
    (root / "outside" / "Green").mkdir(parents=True)
    (root / "kpf" / "evil").symlink_to(root / "outside")
    (root / "kpf" / "2024apr21" / "loop").symlink_to("loop")
    (root / "kpf" / "alias").symlink_to("2024apr21")
    (root / "other").symlink_to(root / "kpf")
    return root


@pytest.fixture(scope="module")
def places(tree) -> list[str]:
    return [str(tree / "kpf" / night / folder) for night in ("2024apr20", "2024apr21") for folder in ("Green", "Red")]


def test_an_announcement_is_news_once(kpf):
    history = History(kpfgreen=Sample(time=1_713_600_000.0, value="/a/Green/kpf_1.fits"))
    announcements = Announcements(kpf)
    (news,) = announcements.ask(history, NOW)
    assert (news.origin.name, news.text, news.time) == ("green", "/a/Green/kpf_1.fits", 1_713_600_000 * SECOND)
    assert announcements.ask(history, NOW + SECOND) == ()
    history.samples["kpfgreen.FITSFILE"] = Sample(time=1_713_600_001.0, value="/a/Green/kpf_1.fits")
    history.samples["kpfred.FITSFILE"] = Sample(time=1_713_600_001.0, value="/a/Red/kpf_1.fits")
    assert [n.origin.name for n in announcements.ask(history, NOW + SECOND)] == ["green", "red"]


def test_one_question_is_asked_for_all_origins_and_none_where_nobody_announces(kpf, one):
    history = History()
    assert Announcements(kpf).ask(history, NOW) == ()
    assert history.questions == [(["kpfgreen.FITSFILE", "kpfred.FITSFILE", "kpfguide.LASTTRIGFILE"], [NOW / SECOND])]
    assert Announcements(one).ask(history, NOW) == ()
    assert len(history.questions) == 1


def test_what_a_failing_history_does_not_tell_is_news_later(kpf):
    history = History(kpfgreen=Sample(time=1.0, value="/a/Green/kpf_1.fits"))
    history.failure = TelemetryError("the server is away", retry=True)
    announcements = Announcements(kpf)
    with pytest.raises(TelemetryError, match="the server is away"):
        announcements.ask(history, NOW)
    history.failure = None
    assert len(announcements.ask(history, NOW)) == 1


def test_a_real_history_tells_it(kpf, tmp_path):
    sqlite.load(str(tmp_path / "h.db"), [("kpfred.FITSFILE", 1_713_600_000.5, "/a/Red/kpf_1.fits"), ("kpfred.FITSFILE", 1.8e9, "later")])
    history = open_history(f"sqlite:///{tmp_path / 'h.db'}")
    (news,) = Announcements(kpf).ask(history, NOW)
    assert (news.origin.name, news.text, news.time) == ("red", "/a/Red/kpf_1.fits", 1_713_600_000 * SECOND + SECOND // 2)
    history.close()


def test_a_broadcast_of_any_length_takes_bounded_memory(kpf):
    history = History(kpfgreen=Sample(time=1.0, value="x" * 10**6))
    (news,) = Announcements(kpf).ask(history, NOW)
    assert len(news.text) == LONGEST + 1
    assert isinstance(accept(news.text, ["/a"], news.origin), Refused)


@pytest.mark.parametrize(
    "text",
    [
        "{0}/kpf/2024apr21/Green/kpf_215921.fits",
        "{0}//kpf/./2024apr21/Green//kpf_215921.fits ",
        "/s/sdata1701/kpf1/2024apr21/Green/kpf_215921.fits",
        "/2024apr21/Green/kpf_215921.fits",
        "2024apr21/Green/kpf_215921.fits",
        "sdata1701/kpf1/2024apr21/Green/kpf_215921.fits",
    ],
)
def test_a_path_is_known_by_its_end_whatever_the_mount(tree, places, green, text):
    assert accept(text.format(tree), places, green) == str(tree / "kpf/2024apr21/Green/kpf_215921.fits")


def test_where_one_place_fits_a_name_is_enough(places, green):
    assert accept("kpf_1.fits", places[2:], green) == f"{places[2]}/kpf_1.fits"
    assert accept("Green/kpf_1.fits", places[2:], green) == f"{places[2]}/kpf_1.fits"
    assert "may be in" in refusal(accept("Green/kpf_1.fits", places, green))


def test_below_a_place_a_path_is_taken_as_it_is(tree, green):
    told = f"{tree}/kpf/2024apr21/Green/kpf_1.fits"
    assert accept(told, [str(tree / "kpf")], green) == told
    assert accept(told, ["/"], green) == told


def test_an_origin_without_directories_is_known_by_its_night(tree, one):
    (cam,) = one.origins
    place = str(tree / "kpf/2024apr21")
    assert accept("/s/data/2024apr21/x.fits", [place, str(tree / "kpf/2024apr20")], cam) == f"{place}/x.fits"


def test_a_place_that_is_a_link_is_where_it_leads(tree, green):
    place = str(tree / "other/2024apr21/Green")
    assert accept("/s/2024apr21/Green/kpf_1.fits", [place], green) == f"{place}/kpf_1.fits"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "names no file"),
        ("/", "names no file"),
        ("/s/2024apr21/Green/", "names no file"),
        ("/s/2024apr21/Green/.", "names no file"),
        ("/s/2024apr21/Green/kpf_1.fits\0", "cannot be printed"),
        ("/s/2024apr21/Green/kpf_1.fits\n/etc/passwd", "cannot be printed"),
        ("/s/2024apr21/Green/kpf_\udcff.fits", "cannot be printed"),
        ("/s/2024apr21/Green/kpf_\u202e1.fits", "cannot be printed"),
        ("/s/2024apr21/Green/../Green/kpf_1.fits", "goes up"),
        ("../../Green/kpf_1.fits", "goes up"),
        ("/s/2024apr21/Green/.kpf_1.fits", "is hidden"),
        ("/s/.hidden/2024apr21/Green/kpf_1.fits", "is hidden"),
        ("/s/2024apr21/Green/" + "x" * 256, "255 bytes"),
        ("/s/" * 400, "longer than"),
        ("/etc/passwd", "no directory that is watched"),
        ("/s/2024apr22/Green/kpf_1.fits", "no directory that is watched"),
        ("/Green/kpf_1.fits", "no directory that is watched"),
        ("/s/2024apr21/Red/kpf_1.fits", "no directory that is watched"),
        ("/s/2024apr21/Green/passwd", "not as its sub-FITS are"),
        ("/s/2024apr21/Green/kpf_{frame}.fits", "not as its sub-FITS are"),
    ],
)
def test_what_is_refused_says_why_in_one_line(places, green, text, reason):
    told = refusal(accept(text, places, green))
    assert reason in told
    assert told.startswith("announced by green, ")
    assert told.isprintable()


@pytest.mark.parametrize("below", ["evil/Green", "2024apr21/loop/Green", "2024apr23/Green"])
def test_a_link_that_leads_out_and_a_directory_that_is_not_there_are_refused(tree, green, below):
    refusal(accept(f"{tree}/kpf/{below}/kpf_1.fits", [str(tree / "kpf")], green))


def test_places_that_match_alike_are_not_guessed_between(tree, green):
    (tree / "copy/2024apr21/Green").mkdir(parents=True, exist_ok=True)
    both = [str(tree / "kpf/2024apr21/Green"), str(tree / "copy/2024apr21/Green")]
    assert "may be in" in refusal(accept("/s/2024apr21/Green/kpf_1.fits", both, green))
    assert accept("/s/copy/2024apr21/Green/kpf_1.fits", both, green) == f"{both[1]}/kpf_1.fits"


WORDS = [
    "kpf",
    "2024apr20",
    "2024apr21",
    "Green",
    "Red",
    "evil",
    "alias",
    "loop",
    "other",
    "outside",
    "..",
    ".",
    "",
    "~",
    "kpf_1.fits",
    "/etc",
]


@given(
    text=st.text(max_size=80)
    | st.lists(st.sampled_from([*WORDS, "ROOT"]) | st.text(max_size=4), max_size=9).map("/".join)
    | st.lists(st.sampled_from(WORDS), max_size=7).map(lambda parts: "/".join(["ROOT", *parts, "kpf_1.fits"])),
    whole=st.booleans(),
    anything=st.booleans(),
)
@example(text="ROOT/kpf/evil/Green/kpf_1.fits", whole=True, anything=True)
@example(text="ROOT/kpf/alias/Green/kpf_1.fits", whole=True, anything=False)
def test_no_text_ever_leads_out_of_what_is_watched(tree, places, green, text, whole, anything):
    watched = [str(tree / "kpf")] if whole else places
    told = accept(text.replace("ROOT", str(tree)), watched, replace(green, files="*") if anything else green)
    if isinstance(told, Refused):
        assert told.reason.isprintable()
        return
    directory, name = os.path.split(told)
    assert name not in ("", ".", "..")
    assert not name.startswith(".")
    real = os.path.realpath(directory)
    assert any(real == place or real.startswith(f"{place}/") for place in watched)


def test_two_origins_do_not_announce_by_one_keyword():
    text = """
instrument: two
filename: "{stem}.l0.fits"
origins:
  one: {prefix: ON, flag: ONE, file: ONEFN, files: "a*", announced: s.FILE}
  two: {prefix: TW, flag: TWO, file: TWOFN, files: "b*", announced: s.FILE}
"""
    with pytest.raises(ConfigurationError, match=r"two.yaml:6: origins.two.announced: s.FILE is that of one already; expected another one"):
        read_instrument(text, "two.yaml")
    apart = read_instrument(text.replace("s.FILE}\n  two", "s.OTHER}\n  two"), "two.yaml")
    assert [o.announced for o in apart.origins] == ["s.OTHER", "s.FILE"]


def refusal(told: str | Refused) -> str:
    assert isinstance(told, Refused), told
    return told.reason
