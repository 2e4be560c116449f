"""The first draft of an instrument: whatever samples say, its YAML is read back as it is meant, and settles their names."""

from dataclasses import replace
from pathlib import Path

import memory
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from assembler.core.draft import draft_instrument
from assembler.core.draft_files import Frame, SampleFile, file_patterns
from assembler.core.draft_names import origin_names, origin_prefixes
from assembler.core.draft_text import scalar, write_draft
from assembler.core.exposure import collect
from assembler.core.extensions import select_extensions
from assembler.core.merge import Primary, merge_primaries
from assembler.core.patterns import path_fits
from assembler.core.plan import OWN_TABLES
from assembler.core.primary import reserved_names
from assembler.errors import ConfigurationError
from assembler.instruments import read_instrument
from assembler.yaml import read_yaml

GOLDEN = Path(__file__).parent / "golden"

KEYWORD = st.from_regex(r"[A-Z0-9_-]{1,8}", fullmatch=True) | st.sampled_from(
    ["DATE-BEG", "DATE-END", "FRAMENO", "INSTRUME", "DETECTOR", "GAIN01", "GAIN02", "DATASEC1", "DATASEC2", "NO", "VELOCSTX", "VELOCSTY"]
)
TEXT = st.text(st.characters(max_codepoint=255), max_size=40)
VALUE = (
    TEXT.map(lambda t: "'" + t.replace("'", "''") + "'")
    | st.integers(-5, 10**9).map(str)
    | st.sampled_from(["T", "", "1.5E3", "NaN", "'2024-04-22T08:00:32.5'", "'[1:9,1:9]'", "'no'", "'a: {b'", "'# x'", "'null'"])
)
CARD = st.builds(lambda k, v: f"{k:8}= {v}"[:80], KEYWORD, VALUE) | st.builds(lambda w, v: f"HIERARCH {w} = {v}"[:80], TEXT, VALUE)
RAW = CARD | TEXT
EXTENSION = st.lists(
    st.builds(lambda v: f"EXTNAME = {v}"[:80], VALUE | st.sampled_from(["'SCI'", "'AMP1'", "'CARDS'", "'7'", "'a,b'", "'true'"]))
    | st.builds(lambda v: f"EXTVER  = {v}", st.integers(-1, 4))
    | RAW,
    max_size=4,
).map(lambda cards: ["XTENSION= 'IMAGE   '", *cards])
NAME = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12)
PATH = st.lists(NAME, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts)) | st.sampled_from(
    ["/n/Green/kpf_7.fits", "/n/Red/kpf_7.fits", "/n/x_raw.fits", "/n/x_spt.fits", "/n/{frame}.fits", "/n/*.fits", "/n/true.fits"]
)
SUB = st.builds(
    lambda path, primary, size, others: memory.sub_fits(path, [(primary, size), *((cards, 2880) for cards in others)]),
    PATH,
    st.lists(RAW, max_size=12),
    st.sampled_from([0, 0, 0, 2880]),
    st.lists(EXTENSION, max_size=4),
)
SUBS = st.lists(SUB, min_size=1, max_size=3, unique_by=lambda s: s.path)


def sample_files(subs):
    return [SampleFile(sub=s) for s in subs]


def merged(instrument, subs):
    """Return what becomes of the samples' primaries under a drafted instrument, and what selecting their HDUs finds."""
    exposure = collect(instrument, {o.name: s for o, s in zip(instrument.origins, subs, strict=True)})
    taken, primaries, findings = {"PRIMARY", *OWN_TABLES, *(e.name for o in instrument.origins for e in o.extensions)}, [], []
    for origin, sub in exposure.attached:
        chosen, told = select_extensions(origin, sub, taken)
        findings += told
        if all(c.hdu.index for c in chosen):
            primaries.append(Primary(origin=origin, path=sub.path, hdu=sub.hdus[0], extensions={c.name: c.hdu for c in chosen}))
    return exposure, [*findings, *merge_primaries(primaries, instrument.shared, reserved_names(instrument)).findings]


@given(SUBS)
def test_whatever_samples_say_the_yaml_is_read_back_as_it_is_meant_or_they_are_refused(subs):
    try:
        draft = draft_instrument(sample_files(subs))
    except ConfigurationError:
        return
    text = write_draft(draft)
    assert all(c == "\n" or " " <= c <= "~" for c in text)
    assert read_instrument(text, "drafted") == draft.instrument


@given(SUBS)
def test_no_sample_is_left_out_and_no_hdu_unlisted_and_no_name_collides(subs):
    try:
        instrument = draft_instrument(sample_files(subs)).instrument
    except ConfigurationError:
        return
    exposure, findings = merged(instrument, subs)
    assert exposure.missing == ()
    assert [f for f in findings if f.code not in ("card-mended", "duplicate-keyword")] == []


@given(st.lists(PATH, min_size=1, max_size=4, unique=True))
def test_a_pattern_fits_its_own_sample_and_no_other(paths):
    samples = sample_files(memory.sub_fits(p, [((), 0)]) for p in paths)
    try:
        patterns = file_patterns(samples, [Frame(number=7)] * len(paths))
    except ConfigurationError:
        return
    for here, pattern in enumerate(patterns):
        assert [path_fits(pattern, p) for p in paths] == [here == there for there in range(len(paths))]


LAYOUTS = (
    "/n/{o}_{n:04}.fits",
    "/n/{n:04}_{o}.fits.gz",
    "/n/{o}/kpf_{n}.fits",
    "/n/{o}/{o}.{n:06}.fits",
    "/n/{o}/raw/x{n:03}{o}.fits",
    "/n/{d}_{o}1_{n:05}.fits",
    "/n/{o}/{n:03}.{d}T08:00:{s:02}.5.fits",
    "/n/S{n:04}-{o}2.fits",
)


@given(
    st.sampled_from(LAYOUTS),
    st.sampled_from(LAYOUTS),
    st.lists(st.integers(1, 999), min_size=2, max_size=2, unique=True),
    st.booleans(),
    st.sampled_from(["counts with the others", "counts otherwise", "counts otherwise, and no card tells"]),
)
@example("/n/{o}_{n:04}.fits", "/n/{d}_{o}1_{n:05}.fits", [1, 2], True, "counts otherwise, and no card tells")
def test_a_pattern_fits_the_files_of_the_next_exposure_and_no_other(layout, of_guide, numbers, told, guide):
    assume(told or (guide == "counts with the others" and not layout == of_guide == "/n/{o}/raw/x{n:03}{o}.fits"))

    def exposure(number):
        names = {"o": "blue", "n": number, "d": f"2024-04-{number % 28 + 1:02}", "s": number % 60}
        own = number if guide == "counts with the others" else number + 2000
        paths = [layout.format_map(names), layout.format_map(names | {"o": "red"}), of_guide.format_map(names | {"o": "guide", "n": own})]
        cards = [[f"FRAMENO = {n}"] if told else [] for n in (number, number, own)]
        cards[2] = [] if guide.endswith("no card tells") else cards[2]
        return [memory.sub_fits(path, [(card, 0)]) for path, card in zip(paths, cards, strict=True)]

    first, second = map(exposure, numbers)
    origins = draft_instrument(sample_files(first)).instrument.origins
    for here, origin in enumerate(origins):
        assert [path_fits(origin.files, s.path) for s in second] == [here == there for there in range(3)]
        assert "{frame}" in origin.files or origin.frame or (here == 2 and guide != "counts with the others")


def test_two_frames_of_one_origin_are_refused_and_named():
    samples = sample_files(memory.sub_fits(f"/n/kpf_{n}.fits", [([f"FRAMENO = {n}"], 0)]) for n in (215921, 215922))
    with pytest.raises(ConfigurationError, match=r"kpf_215921\.fits and /n/kpf_215922\.fits are frames 215921 and 215922 of one origin"):
        draft_instrument(samples)


@pytest.mark.parametrize(
    ("names", "cards", "keyword"),
    [
        (["x_ccd1.fits", "x_ccd2.fits"], ["FRAMENO = 42", "RUN     = 1"], "FRAMENO"),
        (["r1234.fits"], ["FRAMENO = 42", "RUN     = 1234"], "RUN"),
        (["blue_0042.fits", "red_0042.fits"], ["FRAMENO = 7", "EXPNUM  = 42"], "EXPNUM"),
    ],
)
def test_of_several_frame_cards_all_samples_go_by_one_and_rather_by_that_which_is_in_their_names(names, cards, keyword):
    subs = [memory.sub_fits(f"/n/{name}", [(cards, 0)]) for name in names]
    assert {o.frame for o in draft_instrument(sample_files(subs)).instrument.origins} == {keyword}


def test_where_no_card_tells_a_time_the_name_of_an_l0_has_the_frame_unless_that_of_its_sample_has_it():
    def filename(path):
        return draft_instrument(sample_files([memory.sub_fits(path, [(["FRAMENO = 7"], 0)])])).instrument.filename

    assert filename("/n/kpf_0007.fits") == "{stem}_l0.fits"
    assert filename("/n/kpf.0007.fits") == "instrument.{frame}.fits"


def test_without_frame_numbers_the_first_that_tells_an_interval_is_an_exposure_and_others_are_matched_by_time():
    cards = ["DATE-BEG= '2024-04-22T08:00:00.5'", "EXPTIME = 10."]
    names = ("raw", "spt", "log")
    subs = [memory.sub_fits(f"/n/{n}.fits", [(cards if n != "log" else [], 0)]) for n in names]
    assert [o.match for o in draft_instrument(sample_files(subs)).instrument.origins] == ["frame", "time", "frame"]
    assert write_draft(draft_instrument(sample_files(subs[:2]))).count("each file of a night is an exposure") == 1


def test_no_hierarch_card_is_called_after_that_word():
    cards = [f"HIERARCH MCE{n}_RC_CARD_TEMP = 1" for n in range(30)]
    (origin,) = draft_instrument(sample_files([memory.sub_fits("/n/a.fits", [(cards, 0)])])).instrument.origins
    assert len(set(origin.renames.values())) == 30
    assert all(new.startswith(f"{origin.prefix}M") for new in origin.renames.values())


def test_a_pattern_that_fits_this_exposure_alone_is_told():
    def text(*paths):
        return write_draft(draft_instrument(sample_files(memory.sub_fits(p, [((), 0)]) for p in paths)))

    assert text("/n/ccd1.fits", "/n/ccd2.fits").count("Only the sample is called like that") == 2
    assert text("/n/blue/20240421/a.fits", "/n/red/20240421/a.fits").count("fits this exposure alone") == 2
    assert "alone" not in text("/n/20240421/blue_0007.fits", "/n/20240421/red_0007.fits")


def test_cards_that_differ_by_extension_and_those_that_look_like_times_are_told():
    science = [
        (["XTENSION= 'IMAGE'", "NAXIS   = 1", "NAXIS1  = 2", f"EXTNAME = 'CCD{n}'", f"GAIN    = {n}", "BUNIT   = 'adu'"], 2) for n in (1, 2)
    ]
    draft = draft_instrument(sample_files([memory.sub_fits("/n/a.fits", [(["MJD     = 60422.5", "RA      = 5."], 0), *science])]))
    assert draft.differing == (("GAIN",),)
    assert draft.instants == (("MJD",),)
    text = write_draft(draft)
    assert "they stay there: GAIN\n" in text
    assert "look like times: MJD\n" in text


@given(st.lists(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,3}", fullmatch=True), max_size=60, unique=True))
def test_no_two_origins_have_one_prefix(names):
    prefixes = origin_prefixes(names)
    assert len(set(prefixes)) == len(names)
    assert all(len(p) == 2 and p.isupper() and p.isalpha() for p in prefixes)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_text_is_read_back_as_text(text):
    assert read_yaml(f"{scalar(text)}: [{scalar(text)}, {scalar(text)}]", "t")[0] == {text: [text, text]}


def test_the_draft_of_a_night_of_kpf_reads_as_it_did(request):
    draft = draft_instrument(sample_files(memory.kpf_subs().values()))
    compare(request, "draft_kpf", write_draft(draft))
    assert read_instrument(write_draft(draft), "drafted") == draft.instrument


def test_the_draft_of_what_collides_reads_as_it_did(request):
    primary = ["INSTRUME= 'Twin: #1'", "TEXPSTRT= 60000.5", "TEXPEND = 60000.6", "VELOCSTX= 1", "VELOCSTY= 2", "VELOCS  = 3"]
    primary += ["HIERARCH ESO DET ID = 'x'", "HIERARCH ESO TEL ID = 'y'", "VER     = 1"]
    science = [(["XTENSION= 'IMAGE'", "EXTNAME = 'SCI'", f"EXTVER  = {v}"], 2880) for v in (1, 2)]
    raw = memory.sub_fits("/night/x1_raw.fits", [(primary, 0), *science, (["XTENSION= 'IMAGE'"], 2880)])
    support = memory.sub_fits("/night/x1_spt.fits", [(["INSTRUME= 'Twin: #1'"], 0), (["XTENSION= 'BINTABLE'", "EXTNAME = 'CARDS'"], 2880)])
    draft = draft_instrument([SampleFile(sub=raw, origin="FA"), SampleFile(sub=support)])
    compare(request, "draft_twin", write_draft(draft))
    assert [f for f in merged(draft.instrument, [raw, support])[1] if f.code != "card-mended"] == []


def compare(request, name, text):
    path = GOLDEN / f"{name}.yaml"
    if request.config.getoption("--renew-golden"):
        path.write_text(text, encoding="ascii")
    assert text == path.read_text(encoding="ascii")


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["/n/x_raw.fits", "/n/x_spt.fits"], ("raw", "spt")),
        (["/n/Green/kpf_7.fits", "/n/Red/kpf_7.fits"], ("green", "red")),
        (["/n/blue_0007.fits", "/n/red_0007.fits"], ("blue", "red")),
        (["/n/b7.fits.gz", "/n/r7.fits.gz"], ("b", "r")),
        (["/n/Green/kpf_7.fits", "/n/CaHK/kpf_hk_7.fits"], ("green", "cahk")),
        (["/n/7.fits"], ("origin1",)),
    ],
)
def test_origins_are_named_by_what_tells_them_apart(paths, names):
    samples = sample_files(memory.sub_fits(p, [((), 0)]) for p in paths)
    assert origin_names(samples, [Frame(number=7)] * len(samples)) == names


def test_an_amplifier_card_that_an_extension_has_already_stays_in_the_primary():
    amplifiers = [(["XTENSION= 'IMAGE'", f"EXTNAME = 'AMP{n}'", "GAIN01  = 1", "DATASEC = '[1:2,1:2]'"], 2880) for n in (1, 2)]
    cards = ["GAIN01  = 1", "GAIN02  = 2", "OFFSET02= 1", "OFFSET03= 1", "DATASEC1= '[1:2,1:2]'", "DATASEC2= '[1:2,1:2]'", "LAMP1   = 1"]
    (origin,) = draft_instrument(sample_files([memory.sub_fits("/n/a.fits", [(cards, 0), *amplifiers])])).instrument.origins
    rules = {r.pattern: (r.name, r.modes) for r in origin.amplifier_cards}
    assert rules["OFFSET##"] == ("OFFSET##", {2: {"02": 1, "03": 2}})
    assert "GAIN##" not in rules or rules["GAIN##"][0] == "GAIN"
    assert rules["DATASEC#"][0] == "DATASEC#"
    assert "LAMP#" not in rules


def test_the_number_of_an_amplifier_card_may_stand_in_the_middle():
    amplifiers = [(["XTENSION= 'IMAGE'", f"EXTNAME = 'AMP{n}'"], 2880) for n in (1, 2)]
    sub = memory.sub_fits("/n/a.fits", [(["AMP1SEC = '[1:2,1:2]'", "AMP2SEC = '[3:4,1:2]'"], 0), *amplifiers])
    (rule,) = draft_instrument(sample_files([sub])).instrument.origins[0].amplifier_cards
    assert (rule.pattern, rule.name, rule.modes) == ("AMP#SEC", "AMPSEC", {2: {"1": 1, "2": 2}})


def test_a_time_that_cannot_be_read_is_not_taken():
    cards = ["DATE-BEG= '2024-13-45T00:00:00'", "DATE-OBS= '2024-04-22'", "MJD-OBS = 60422.5", "EXPTIME = 1500 / [ms] open"]
    times = draft_instrument(sample_files([memory.sub_fits("/n/a.fits", [(cards, 0)])])).instrument.origins[0].times
    assert (times.begin, times.form, times.elapsed, times.elapsed_unit) == ("MJD-OBS", "mjd", "EXPTIME", 10**6)


@given(SUBS)
def test_what_may_be_shared_is_shared_without_a_finding(subs):
    try:
        draft = draft_instrument(sample_files(subs))
    except ConfigurationError:
        return
    instrument = replace(draft.instrument, shared=frozenset(draft.alike))
    assert [f for f in merged(instrument, subs)[1] if f.code.startswith("shared-")] == []
