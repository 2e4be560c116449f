"""The plan: every input card has one fate, no two land on one keyword, and nothing depends on who came first."""

from collections import Counter
from dataclasses import replace

import memory
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from assembler.core.cards import keyword_of, read_record
from assembler.core.delivered import read_delivered
from assembler.core.exposure import Exposure, Missing, collect
from assembler.core.instants import parse_iso
from assembler.core.ledger import FATES, ledger_table, read_ledger
from assembler.core.plan import Source, conclude, from_json, l0_name, to_json
from assembler.core.tables import read_table
from assembler.errors import InputError
from assembler.instruments import read_instrument

NOTHING = Exposure(frame=None, attached=(), missing=())
COMMENTARY = {"COMMENT", "HISTORY", "", "CONTINUE"}


@pytest.mark.parametrize("amplifiers", [2, 4])
def test_every_input_card_is_in_the_ledger_once_with_one_fate(plan, amplifiers):
    subs = memory.kpf_subs(amplifiers=amplifiers)
    planned = plan(subs)
    given_cards = [(name, hdu.index, n, card) for name, s in subs.items() for hdu in s.hdus for n, card in enumerate(hdu.images, 1)]
    assert Counter((r.origin, r.hdu, r.number, r.card) for r in planned.ledger) == Counter(given_cards)
    assert {r.fate for r in planned.ledger} <= set(FATES)


@pytest.mark.parametrize("amplifiers", [2, 4])
def test_every_card_is_where_the_ledger_says(plan, amplifiers):
    planned = plan(memory.kpf_subs(amplifiers=amplifiers))
    headers = {h.name: h.cards for h in planned.hdus}
    for row in planned.ledger:
        if row.fate == "kept":
            assert row.card in headers[row.extension]
        elif row.fate == "prefixed":
            (card,) = [c for c in headers["PRIMARY"] if keyword_of(c) == row.keyword]
            assert read_record(0, card).value == read_record(0, row.card).value or card.rstrip().endswith("&'")
        elif row.fate == "amplifier":
            (card,) = [c for c in headers[row.extension] if keyword_of(c) == row.keyword]
            assert card[8:] == row.card[8:]
        elif row.extension:
            assert row.keyword in map(keyword_of, headers[row.extension])


def test_no_two_cards_of_a_header_have_one_keyword(plan):
    for hdu in plan(memory.kpf_subs(amplifiers=4)).hdus:
        counts = Counter(k for c in hdu.cards if (k := keyword_of(c)) not in COMMENTARY)
        assert [k for k, n in counts.items() if n > 1] == []


def test_a_night_has_no_trouble_but_what_its_cameras_say(plan):
    planned = plan(memory.kpf_subs(1))
    told = [(f.code, f.origin, f.keyword) for f in planned.findings if f.severity != "info"]
    assert told == [("duration-differs", "green", "EXPTIME"), ("duration-differs", "red", "EXPTIME")]


def test_amplifier_cards_go_to_their_own_amplifier_in_both_read_modes(plan):
    for amplifiers, channels in ((2, {2: "AMP1", 3: "AMP2"}), (4, {0: "AMP1", 1: "AMP2", 2: "AMP3", 3: "AMP4"})):
        planned = plan(memory.kpf_subs(amplifiers=amplifiers))
        moved = {(r.origin, keyword_of(r.card)): (r.extension, r.keyword) for r in planned.ledger if r.fate == "amplifier"}
        for channel, amplifier in channels.items():
            assert moved["green", f"GAIN{channel:02d}"] == (f"GREEN_{amplifier}", f"GAIN{channel:02d}")
            assert moved["red", f"OFFSET{channel:02d}"] == (f"RED_{amplifier}", f"OFFSET{channel:02d}")
        for number in range(1, amplifiers + 1):
            assert moved["red", f"DATASEC{number}"] == (f"RED_AMP{number}", "DATASEC")


def test_a_read_mode_that_nobody_knows_moves_nothing_and_loses_nothing(plan):
    subs = memory.kpf_subs(amplifiers=4)
    subs["green"] = replace(subs["green"], hdus=subs["green"].hdus[:4])
    planned = plan(subs)
    assert {"read-mode-unknown", "amplifier-unknown"} <= {f.code for f in planned.findings}
    assert {r.fate for r in planned.ledger if r.origin == "green" and r.card.startswith("GAIN")} == {"prefixed"}


@given(st.permutations(["green", "red", "ca_hk", "expmeter", "guide"]))
def test_the_order_in_which_files_arrive_does_not_matter(kpf, order):
    subs = memory.kpf_subs()
    shuffled = {name: subs[name] for name in order}
    assert memory.plan_of(kpf, collect(kpf, shuffled)) == memory.plan_of(kpf, collect(kpf, subs))


@given(st.sets(st.sampled_from(["green", "red", "ca_hk", "expmeter", "guide"]), max_size=4))
def test_a_missing_origin_takes_only_its_own_cards_with_it(kpf, missing):
    subs = {name: sub for name, sub in memory.kpf_subs().items() if name not in missing}
    planned = memory.plan_of(kpf, collect(kpf, subs))
    values = memory.primary_values(planned)
    for origin in kpf.origins:
        assert values[origin.flag] == ("NO" if origin.name in missing else "YES")
    assert {f.origin for f in planned.findings if f.code.startswith(("absent", "not-triggered"))} == missing
    assert not any(f"Kwd {name} " in c for name in missing for c in planned.hdus[0].cards)
    assert values["CAMERAS"] == 5


def test_why_an_origin_is_missing_depends_on_what_was_triggered(kpf):
    subs = {n: s for n, s in memory.kpf_subs().items() if n not in ("guide", "ca_hk")}
    exposure = collect(kpf, subs, [Missing(origin="ca_hk", reason="truncated", message="cut")])
    answers = memory.answers_for(kpf, 10**18, 10**18 + 6 * 10**11)
    told = {s: v._replace(value="Green,Red") if s == "kpfconfig.TRIGTARG" else v for s, v in answers.values["middle"].items()}
    planned = memory.plan_of(kpf, exposure, replace(answers, values={**answers.values, "middle": told}))
    assert {(f.origin, f.code) for f in planned.findings if f.origin in ("guide", "ca_hk")} >= {
        ("guide", "not-triggered"),
        ("ca_hk", "truncated"),
    }


def test_an_empty_hdu_may_stand_in(kpf):
    subs = {n: s for n, s in memory.kpf_subs().items() if n not in ("guide", "green")}
    instrument = replace(kpf, missing="empty")
    planned = memory.plan_of(instrument, collect(instrument, subs))
    empty = {h.name for h in planned.hdus[1:] if h.data is None}
    assert empty == {"GREEN_AMP1", "GREEN_AMP2", "GUIDER_AVG", "GUIDER_CUBE_ORIGINS"}


def test_a_frame_of_another_exposure_is_left_out(kpf):
    subs = memory.kpf_subs()
    subs["red"] = memory.kpf_subs(1)["red"]
    exposure = collect(kpf, subs)
    assert [(m.origin, m.reason) for m in exposure.missing] == [("red", "frame-differs")]
    assert exposure.frame == subs["green"].hdus[0].value("FRAMENO")


def test_hdus_that_nobody_lists_get_names_of_their_own_however_many_they_are(plan):
    subs = memory.kpf_subs()
    hdus = subs["guide"].hdus
    more = tuple(replace(hdus[1], index=number) for number in range(len(hdus), 3000))
    subs["guide"] = replace(subs["guide"], hdus=(*hdus, *more))
    names = [h.name for h in plan(subs).hdus]
    assert len(set(names)) == len(names)
    assert {"GUIDE_GUIDER_AVG", "GUIDE_GUIDER_AVG_2", "GUIDE_GUIDER_AVG_2997"} <= set(names)


def test_the_plan_goes_through_json_and_back(plan):
    planned = plan(memory.kpf_subs())
    assert from_json(to_json(planned)) == planned


def test_nothing_to_assemble_is_one_clear_error(plan):
    with pytest.raises(InputError, match="no sub-FITS"):
        plan({})


NAMES = st.text("ABCDEFG-_12", min_size=1, max_size=8)
CARD = st.one_of(
    st.tuples(NAMES, st.integers()).map(lambda c: f"{c[0]:8}= {c[1] % 10**9:20d} / {'any comment'}"),
    st.tuples(NAMES, st.text(max_size=30)).map(lambda c: f"{c[0]:8}= '{c[1]}'"),
    st.text(st.characters(max_codepoint=255), max_size=80),
    st.sampled_from(
        ["COMMENT said before", "HISTORY done before", "", "NAXIS   =                    0", "HIERARCH ESO DET ID = 5", "END OF IT"]
    ),
)
HEADER = st.lists(
    CARD.map(lambda c: "".join(x if ord(x) < 256 else "?" for x in c)[:80].ljust(80)).filter(lambda c: c.rstrip() != "END"), max_size=30
)


@given(st.lists(HEADER, min_size=1, max_size=2), HEADER)
def test_whatever_headers_say_nothing_is_lost_and_the_l0_is_lawful(headers, extension):
    instrument = read_instrument(
        """
instrument: any
filename: any.fits
shared: [ABC]
origins:
  one: {prefix: ON, flag: ONE, file: ONEFN, files: one, extensions: {ONE: 1}}
  two: {prefix: TW, flag: TWO, file: TWOFN, files: two}
""",
        "any.yaml",
    )
    start = ["SIMPLE  =                    T", "BITPIX  =                    8", "NAXIS   =                    0"]
    image = [
        "XTENSION= 'IMAGE   '",
        "BITPIX  =                    8",
        "NAXIS   =                    0",
        "PCOUNT  =                    0",
        "GCOUNT  =                    1",
    ]
    subs = {"one": memory.sub_fits("/one", [([*start, *headers[0]], 0), ([*image, *extension], 0)])}
    if len(headers) > 1:
        subs["two"] = memory.sub_fits("/two", [([*start, *headers[1]], 0)])
    planned = memory.plan_of(instrument, collect(instrument, subs))
    assert [r.card for r in planned.ledger] == [c for s in subs.values() for h in s.hdus for c in h.images]
    for hdu in planned.hdus[:2]:
        for card in hdu.cards:
            assert len(card) == 80
            assert card.isascii()
            assert card.isprintable()
        keywords = [k for c in hdu.cards if (k := keyword_of(c)) not in COMMENTARY | {"HIERARCH"}]
        if hdu.name == "PRIMARY":
            assert len(keywords) == len(set(keywords))
    fits.Header.fromstring("".join(planned.hdus[0].cards)).tostring()
    assert from_json(to_json(planned)) == planned


TOLD = st.sampled_from(["DATE-BEG", "DATE-END", "ELAPSED", "FRAMENO", "TIMESYS", "DATASUM", "CHECKSUM", "EXTNAME", "EXTVER"])
SAID = st.one_of(
    st.sampled_from(
        ["'2024-04-22T08:00:32.886179'", "'9999-12-31T23:59:59.999'", "T", "", "1E400", "-1", "60422.3", "(1, 2)", "NaN", "9" * 69]
    ),
    st.text(st.characters(max_codepoint=255), max_size=30).map(lambda t: f"'{t}'"),
    st.floats().map(repr),
)


@given(st.lists(st.tuples(TOLD, SAID), max_size=8), st.sampled_from(["iso", "mjd", "jd", "unix"]))
def test_whatever_a_header_says_of_times_and_frames_it_is_planned_or_refused(said, form):
    yaml = f"""
instrument: one
filename: "{{date}}_{{frame}}.fits"
origins:
  cam:
    {{prefix: CM, flag: CAM, file: CAMFN, files: "*", frame: FRAMENO,
      times: {{begin: DATE-BEG, end: DATE-END, elapsed: ELAPSED, form: {form}, unit: d}}}}
"""
    instrument = read_instrument(yaml, "one.yaml")
    cards = [f"{keyword:8}= {value}"[:80].ljust(80) for keyword, value in said]
    start = ["SIMPLE  =                    T", "BITPIX  =                    8", "NAXIS   =                    0"]
    image = ["XTENSION= 'IMAGE   '", "BITPIX  =                    8", "NAXIS   =                    0"]
    subs = {"cam": memory.sub_fits("/cam.fits", [([*start, *cards], 0), ([*image, *cards], 0)])}
    try:
        planned = memory.plan_of(instrument, collect(instrument, subs))
    except InputError as error:
        told = str(error)
    else:
        assert len(planned.ledger) == 6 + 2 * len(cards)
        return
    assert "cannot be named" in told


@given(HEADER)
def test_the_ledger_comes_back_from_its_table_with_every_byte(cards):
    subs = {
        "cam": memory.sub_fits(
            "/cam", [(["SIMPLE  =                    T", "BITPIX  =                    8", "NAXIS   =                    0", *cards], 0)]
        )
    }
    instrument = read_instrument(
        "instrument: one\nfilename: a.fits\norigins:\n  cam: {prefix: CM, flag: CAM, file: CAMFN, files: '*'}\n", "one.yaml"
    )
    planned = memory.plan_of(instrument, collect(instrument, subs))
    table = ledger_table(planned.ledger)
    assert read_ledger(read_table(table.cards(), table.data())) == planned.ledger


def test_shared_cards_are_written_once_when_all_agree(kpf):
    subs = memory.kpf_subs()
    instrument = replace(kpf, shared=frozenset({"OBSERVER", "FRAMENO", "ACF"}))
    planned = memory.plan_of(instrument, collect(instrument, subs))
    fates = {(r.origin, keyword_of(r.card)): r.fate for r in planned.ledger if r.hdu == 0}
    assert fates["green", "OBSERVER"] == fates["red", "OBSERVER"] == "shared"
    assert fates["green", "ACF"] == fates["red", "ACF"] == "prefixed"
    assert {f.code: f.keyword for f in planned.findings if f.code.startswith("shared")} == {
        "shared-differs": "ACF",
        "shared-name-taken": "FRAMENO",
    }
    assert sum(c.startswith("OBSERVER=") for c in planned.hdus[0].cards) == 1


def test_a_shared_date_that_is_none_is_prefixed(kpf):
    bad = "DATE-NN = 'Tuesday'".ljust(80)
    subs = {n: replace(s, hdus=(replace(s.hdus[0], images=(*s.hdus[0].images, bad)), *s.hdus[1:])) for n, s in memory.kpf_subs().items()}
    instrument = replace(kpf, shared=frozenset({"DATE-NN"}))
    planned = memory.plan_of(instrument, collect(instrument, subs))
    names = {r.keyword for r in planned.ledger if r.card == bad and r.hdu == 0}
    assert names == {"GRDATE-", "RDDATE-", "EMDATE-", "GCDATE-", "COMMENT"}


def test_cards_of_an_extension_pass_or_are_mended_and_found(plan):
    given = {
        "READY   as it is": "READY   as it is",
        "ready   as it is": "COMMENT ready   as it is",
        "DATE-NN = 5 / five": "COMMENT DATE-NN = 5 / five",
        "DATE-N2 = 'Tuesday'": "COMMENT DATE-N2 = 'Tuesday'",
        "DATE-N3 = '2024-04-22'": "DATE-N3 = '2024-04-22'",
        "Lower   = 1.5e-3 / both": "LOWER   = 1.5E-3               / both",
        "HIERARCH ESO DET ID = 5": "HIERARCH ESO DET ID = 5",
        "TEMP    = '21 \xb0C'": "TEMP    = '21 ?C'",
    }
    subs = memory.kpf_subs()
    hdus = subs["green"].hdus
    images = (*hdus[1].images, *(card.ljust(80) for card in given))
    subs["green"] = replace(subs["green"], hdus=(hdus[0], replace(hdus[1], images=images), *hdus[2:]))
    planned = plan(subs)
    cards = [c.rstrip() for c in next(h.cards for h in planned.hdus if h.name == "GREEN_AMP1")]
    assert [c for c in given.values() if c not in cards] == []
    mended = [f for f in planned.findings if f.code == "card-mended"]
    assert len(mended) == sum(old != new for old, new in given.items())
    assert all("HDU 1, card " in f.message for f in mended)


def test_a_hierarch_card_with_a_short_name_in_the_yaml_is_prefixed(kpf):
    subs = memory.kpf_subs()
    hdus = subs["green"].hdus
    images = (*hdus[0].images, "HIERARCH ESO  DET ID = 5 / detector".ljust(80), "HIERARCH ESO DET NO = 6".ljust(80))
    subs["green"] = replace(subs["green"], hdus=(replace(hdus[0], images=images), *hdus[1:]))
    green = replace(kpf.origins[0], renames={**kpf.origins[0].renames, "HIERARCH ESO DET ID": "GRDETID"})
    instrument = replace(kpf, origins=(green, *kpf.origins[1:]))
    planned = memory.plan_of(instrument, collect(instrument, subs))
    (card,) = [c for c in planned.hdus[0].cards if c.startswith("GRDETID ")]
    assert read_record(0, card).value == 5
    assert card.rstrip().endswith("/ detector Kwd green HIERARCH ESO DET ID")
    assert [f.code for f in planned.findings if f.origin == "green" and f.severity != "info"] == ["duration-differs", "hierarch-dropped"]


def test_what_only_the_data_can_tell_ends_up_in_the_findings(plan):
    subs = memory.kpf_subs()
    hdus = subs["ca_hk"].hdus
    told = (*hdus[0].images, "DATASUM = '12      '".ljust(80), "CHECKSUM= 'abcdabcdabcdabcd'".ljust(80))
    subs["ca_hk"] = replace(subs["ca_hk"], hdus=(replace(hdus[0], images=told),))
    planned = plan(subs)
    sums = {h.name: 13 for h in planned.hdus if isinstance(h.data, Source)}
    digests = {i.delivered.origin: "0f" * 32 for i in planned.inputs}
    concluded = conclude(planned, sums, digests)
    assert [f.code for f in concluded.findings[len(planned.findings) :]] == ["datasum-wrong", "checksum-wrong"]
    assert read_delivered(concluded.hdus[-2].cards) == tuple(replace(i.delivered, digest="0f" * 32) for i in planned.inputs)
    again = conclude(planned, sums | {"CA_HK": 12}, {})
    assert again.hdus[:-1] == planned.hdus[:-1]
    assert [len(h.cards) for h in concluded.hdus[:-1]] == [len(h.cards) for h in planned.hdus[:-1]]


@pytest.mark.parametrize(
    ("time", "name"),
    [
        ("2024-04-22T08:00:32.886179", "KP.20240422.28832.89.fits"),
        ("2024-04-22T23:59:59.994999", "KP.20240422.86399.99.fits"),
        ("2024-04-22T23:59:59.997", "KP.20240423.00000.00.fits"),
        ("2024-12-31T23:59:59.995", "KP.20250101.00000.00.fits"),
        ("2024-04-22T00:00:00.005", "KP.20240422.00000.01.fits"),
    ],
)
def test_the_name_is_that_of_the_begin_rounded_and_carries_over_midnight(time, name):
    assert l0_name("KP.{date}.{seconds}.fits", parse_iso(time), NOTHING) == name


def test_a_name_that_cannot_be_made_says_why():
    with pytest.raises(InputError, match="nobody tells when"):
        l0_name("KP.{date}.fits", None, NOTHING)
    with pytest.raises(InputError, match="it has no frame"):
        l0_name("{frame}.fits", None, NOTHING)
