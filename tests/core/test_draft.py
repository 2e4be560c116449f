"""The first draft of an instrument: whatever samples say, its YAML is read back as it is meant, and settles their names."""

from dataclasses import replace
from pathlib import Path

import memory
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assembler.core.draft import draft_instrument
from assembler.core.draft_names import SampleFile, file_patterns, origin_names, origin_prefixes
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
        patterns = file_patterns(samples, [7] * len(paths))
    except ConfigurationError:
        return
    for here, pattern in enumerate(patterns):
        assert [path_fits(pattern, p) for p in paths] == [here == there for there in range(len(paths))]


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
        (["/n/7.fits"], ("origin1",)),
    ],
)
def test_origins_are_named_by_what_tells_them_apart(paths, names):
    assert origin_names(sample_files(memory.sub_fits(p, [((), 0)]) for p in paths)) == names


def test_an_amplifier_card_that_an_extension_has_already_stays_in_the_primary():
    amplifiers = [(["XTENSION= 'IMAGE'", f"EXTNAME = 'AMP{n}'", "GAIN01  = 1", "DATASEC = '[1:2,1:2]'"], 2880) for n in (1, 2)]
    cards = ["GAIN01  = 1", "GAIN02  = 2", "OFFSET02= 1", "OFFSET03= 1", "DATASEC1= '[1:2,1:2]'", "DATASEC2= '[1:2,1:2]'", "LAMP1   = 1"]
    (origin,) = draft_instrument(sample_files([memory.sub_fits("/n/a.fits", [(cards, 0), *amplifiers])])).instrument.origins
    rules = {r.pattern: (r.name, r.modes) for r in origin.amplifier_cards}
    assert rules["OFFSET##"] == ("OFFSET##", {2: {"02": 1, "03": 2}})
    assert "GAIN##" not in rules or rules["GAIN##"][0] == "GAIN"
    assert rules["DATASEC#"][0] == "DATASEC#"
    assert "LAMP#" not in rules


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
