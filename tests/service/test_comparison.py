"""Why an L0 would be another one now: whatever changed since, alone or together, is told as what it is and nothing else is."""

import itertools
import os
import re
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import click
import kpf_night
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from assembler.changes import change_lines
from assembler.core.corrections import Correction
from assembler.errors import ConfigurationError, InputError, TelemetryError
from assembler.fits.blocks import scan
from assembler.fits.sums import word_sum
from assembler.fits.writer import render_header
from assembler.instruments import read_instrument
from assembler.service.comparison import Making, compare_l0s, compare_with_now
from assembler.service.finder import find_given, find_night
from assembler.service.pipeline import assemble
from assembler.service.reader import snapshot_instants
from assembler.service.recorded import find_again, home_of, night_of, read_recording, recorded_corrections, recorded_found
from assembler.service.replay import open_history
from assembler.telemetry import sqlite
from assembler.telemetry.load import read_samples

YAML = (ROOT / "prefixes.yaml").read_text()
RENAMED = YAML.replace("ACFMD5: GRACFSUM", "ACFMD5: GRACFNEW")
CORRECTED = (
    Correction(file="a.yaml", place="a.yaml:1", reason="never set", origin="green", keyword="EXPTIME", value=30068, was=(0,)),
    Correction(file="a.yaml", place="a.yaml:2", reason="typed in wrong", history="kpfconfig.TARGNAME", value="10700"),
)


class Night:
    """A night whose L0 was made without red; what came since is switched on and off."""

    def __init__(self, directory: Path) -> None:
        self.night = kpf_night.make_night(directory / "data", shape=(8, 6))
        self.frame = self.night.frames[0]
        self.files = self.night.sub_fits(self.frame)
        self.history = directory / "history.db"
        self.filled = directory / "filled.db"
        for path in (self.history, self.filled):
            sqlite.load(str(path), read_samples(self.night.telemetry))
        self.out = directory / "out"
        with self.without("red"):
            self.l0 = self.assemble(self.making())
        middle = snapshot_instants(scan(str(self.l0)))["middle"] / 1e9
        late = directory / "late.csv"
        late.write_text(f"service,keyword,time,value\ndcs1,AIRMASS,{middle - 0.01!r},1.77\n")
        sqlite.load(str(self.filled), read_samples(late))

    def making(self, **other) -> Making:
        yaml = other.pop("yaml", YAML)
        known = {"found": find_night(read_instrument(yaml, "kpf.yaml"), self.night.directory, self.frame)}
        known |= {"history": self.open(self.history), "corrections": (), "directory": self.out, "version": "1"}
        return Making(**(known | other))

    def open(self, path: Path):
        return open_history(f"sqlite:///{path}")

    def assemble(self, making: Making, supersede: str | None = None) -> Path:
        words = {"corrections": making.corrections, "version": making.version, "clock": lambda: 10**18, "supersede": supersede}
        return assemble(making.found, making.history, making.directory, **words).path

    @contextmanager
    def without(self, origin: str):
        path = self.files[origin]
        aside = path.with_name("aside")
        path.rename(aside)
        try:
            yield
        finally:
            aside.rename(path)

    @contextmanager
    def edited(self, origin: str, edit):
        path = self.files[origin]
        before, status = path.read_bytes(), path.stat()
        path.write_bytes(edit(before))
        try:
            yield
        finally:
            path.write_bytes(before)
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Night:
    return Night(tmp_path_factory.mktemp("comparison"))


def one_card_more(content: bytes) -> bytes:
    """Put a card into the primary, behind its structure, where there is room for it before the header's end."""
    end = content.index(b"END".ljust(80))
    header, rest = content[:end], content[end:]
    assert rest[80:160].isspace()
    return header[:320] + b"NEWCARD =                   42 / put in later".ljust(80) + header[320:] + rest[:80] + rest[160:]


def rewritten(content: bytes, edit, *, summed: bool = False) -> bytes:
    """Return FITS content whose HDUs, each a list of cards and its data, were edited; sums stay as they were, or are made anew."""
    pieces, start = [], 0
    for hdu in scan_bytes(content):
        pieces.append(([image.encode("latin-1") for image in hdu.images], content[hdu.offset : hdu.offset + hdu.length]))
        start = hdu.offset + hdu.length
    edit(pieces)
    if summed:
        apart = [[card.decode() for card in cards if not card.startswith((b"CHECKSUM", b"DATASUM "))] for cards, _ in pieces]
        return b"".join(render_header(cards, word_sum(d)) + d for cards, (_, d) in zip(apart, pieces, strict=True)) + content[start:]
    headers = [b"".join(cards) + b"END".ljust(80) for cards, _ in pieces]
    return b"".join(h + b" " * (-len(h) % 2880) + d for h, (_, d) in zip(headers, pieces, strict=True)) + content[start:]


def scan_bytes(content: bytes):
    with tempfile.NamedTemporaryFile(suffix=".fits") as file:
        file.write(content)
        file.flush()
        return scan(file.name).hdus


SINCE = {
    "YAML": {("PRIMARY", "GRACFNEW"), ("PRIMARY", "GRACFSUM"), ("CARDS", "green HDU 0 ACFMD5")},
    "telemetry": {("PRIMARY", "AIRMASS"), ("TELEMETRY", "dcs1.AIRMASS")},
    "the assembler's version": {("PRIMARY", "FAVER")},
    "corrections": {("PRIMARY", "GREXPTI"), ("PRIMARY", "TARGNAME"), ("FINDINGS", "corrected TARGNAME"), ("CARDS", "green HDU 0 EXPTIME")},
    "the sub-FITS of red": {
        ("PRIMARY", "RED"),
        ("PRIMARY", "REDFN"),
        ("PRIMARY", "RDTM_ZO"),
        ("CARDS", "red HDU 0 TM_ZONE"),
        ("RED_AMP1", ""),
    },
    "the sub-FITS of green": {("PRIMARY", "GRNEWCA"), ("CARDS", "green HDU 0 NEWCARD"), ("CARDS", "SHA1")},
    "the output directory": {("PRIMARY", "OUTDIR")},
}


@pytest.mark.parametrize(
    "since", [*itertools.chain(*(itertools.combinations(SINCE, count) for count in (0, 1, 2))), tuple(SINCE)], ids=" + ".join
)
def test_what_changed_since_is_told_as_what_it_is_alone_and_together(made, since, tmp_path):
    other = {}
    with ExitStack() as stack:
        if "the sub-FITS of red" not in since:
            stack.enter_context(made.without("red"))
        if "the sub-FITS of green" in since:
            stack.enter_context(made.edited("green", one_card_more))
        if "YAML" in since:
            other["yaml"] = RENAMED
        if "telemetry" in since:
            other["history"] = made.open(made.filled)
        if "the assembler's version" in since:
            other["version"] = "2"
        if "corrections" in since:
            other["corrections"] = CORRECTED
        if "the output directory" in since:
            other["directory"] = tmp_path
        found = compare_with_now(made.l0, made.making(**other))
    either = {"YAML", "the assembler's version"} <= set(since)  # of two that may have made it, nobody knows which did
    causes = {"YAML or the assembler's version" if either and cause == "YAML" else cause for cause in since}
    own = [change for change in found.changes if not change.expected]
    assert {cause for change in own for cause in change.causes} == causes
    for cause in since:
        name = "YAML or the assembler's version" if either and cause == "YAML" else cause
        assert SINCE[cause] <= {(c.hdu, c.keyword) for c in own if c.causes == (name,)}
    alone = {"YAML": 3, "telemetry": 2, "the assembler's version": 1, "the sub-FITS of green": 3, "the output directory": 1}
    assert all(sum(c.causes == (cause,) for c in own) == count for cause, count in alone.items() if since == (cause,))
    assert found.differs == bool(since)


def test_a_pixel_that_is_another_one_by_now_is_told_where_it_is(made):
    offset = scan(str(made.files["ca_hk"])).hdus[0].offset
    with made.without("red"), made.edited("ca_hk", lambda c: c[:offset] + bytes([c[offset] ^ 1]) + c[offset + 1 :]):
        change, digest = [c for c in compare_with_now(made.l0, made.making()).changes if not c.expected]
    assert (digest.part, digest.hdu, digest.keyword, digest.causes) == ("card", "CARDS", "SHA3", ("the sub-FITS of ca_hk",))
    assert (change.part, change.hdu, change.causes) == ("data", "CA_HK", ("the sub-FITS of ca_hk",))
    assert change.new[0].endswith("1 byte differs, byte 0")


def test_an_hdu_that_a_sub_fits_has_more_is_one_hdu_with_its_cards_and_changes_none_behind_it(made):
    def put_first(hdus):
        cards, data = hdus[1]
        hdus.insert(1, ([card.replace(b"'AMP1    '", b"'EXTRA   '") for card in cards], data[::-1]))

    with made.without("red"), made.edited("green", lambda c: rewritten(c, put_first)):
        own = [c for c in compare_with_now(made.l0, made.making()).changes if not c.expected]
    assert {c.causes for c in own} == {("the sub-FITS of green",)}
    assert {c.kind for c in own} == {"added", "changed"}
    assert [(c.hdu, c.keyword) for c in own if c.kind == "changed"] == [("CARDS", "SIZE1"), ("CARDS", "SHA1")]
    assert [c.hdu for c in own if c.part == "HDU"] == ["GREEN_EXTRA"]
    assert {c.keyword.rpartition(" ")[0] for c in own if c.hdu == "CARDS" and c.part == "row"} == {"green HDU 1"}


def test_hdus_of_a_sub_fits_in_another_order_have_their_data_all_the_same(made):
    with made.without("red"), made.edited("green", lambda c: rewritten(c, lambda hdus: hdus.insert(1, hdus.pop()))):
        own = [c for c in compare_with_now(made.l0, made.making()).changes if not c.expected]
    assert {c.hdu for c in own} == {"CARDS"}
    assert {c.causes for c in own} == {("the sub-FITS of green",)}


def test_what_an_older_l0_does_not_tell_of_its_sub_fits_is_no_change_of_theirs(made, tmp_path):
    def strip(hdus):
        cards = hdus[-2][0]
        cards[:] = [card for card in cards if not re.match(rb"(ORIGIN|FILE|SIZE|SHA)\d", card)]

    older = tmp_path / made.l0.name
    older.write_bytes(rewritten(made.l0.read_bytes(), strip, summed=True))
    with made.without("red"):
        causes = {c for change in compare_with_now(older, made.making(version="2")).changes for c in change.causes}
        assert causes == {"the assembler's version"}
        with made.edited("green", one_card_more):
            found = compare_with_now(older, made.making(version="2"))
    of_green = {c.keyword for c in found.changes if "the sub-FITS of green" in c.causes}
    assert of_green == {"GRNEWCA", "green HDU 0 NEWCARD", "SHA1"}
    back = compare_l0s(made.l0, older, made.making().found.instrument)
    assert back.causes.keys() == {"unexplained"}


@pytest.mark.parametrize("keyword", [b"DATASUM", b"SHA1   "])
def test_a_card_that_somebody_changed_speaks_for_no_other_sub_fits(made, tmp_path, keyword):
    def change(hdus):
        cards = hdus[1][0] if keyword == b"DATASUM" else hdus[-2][0]
        place = next(n for n, card in enumerate(cards) if card.startswith(keyword))
        cards[place] = keyword.ljust(8) + b"= '12345'".ljust(72)

    edited = tmp_path / made.l0.name
    edited.write_bytes(rewritten(made.l0.read_bytes(), change))
    instrument = made.making().found.instrument
    with made.without("red"):
        told = [compare_l0s(edited, made.l0, instrument), compare_l0s(made.l0, edited, instrument), compare_with_now(edited, made.making())]
    assert {cause for found in told for cause in found.causes} <= {"unexplained"}
    assert all(found.causes for found in told[:2])


def test_what_a_file_has_beside_its_cards_and_data_is_its_own_cause(made):
    with made.without("red"), made.edited("ca_hk", lambda c: c + b"more"):
        found = compare_with_now(made.l0, made.making())
    told = {(c.hdu, c.keyword) for c in found.changes if not c.expected}
    assert told == {("FINDINGS", "trailing-bytes ca_hk"), ("CARDS", "SIZE3"), ("CARDS", "SHA3")}
    assert {c.causes for c in found.changes if not c.expected} == {("the sub-FITS of ca_hk",)}


def test_what_was_changed_in_the_l0_itself_is_explained_by_nothing(made, tmp_path):
    with made.without("red"):
        content = bytearray(made.l0.read_bytes())
        content[content.index(b"AIRMASS =                 1.43") + 29] ^= 1
        hdu = next(h for h in scan(str(made.l0)).hdus if h.extname == "CA_HK")
        content[hdu.offset] ^= 1
        edited = tmp_path / made.l0.name
        edited.write_bytes(content)
        found = compare_with_now(edited, made.making())
    own = [(c.part, c.hdu, c.keyword, c.causes) for c in found.changes if not c.expected]
    assert own == [("card", "PRIMARY", "AIRMASS", ("unexplained",)), ("data", "CA_HK", "", ("unexplained",))]


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_no_byte_of_an_l0_is_another_one_unseen_and_nobody_else_is_blamed(made, data):
    """Where the L0 is refused, the diff tells of something: in cards, data, checksums, fill, and behind the end."""
    content = bytearray(made.l0.read_bytes())
    hdus = scan(str(made.l0)).hdus
    hdu = data.draw(st.sampled_from(hdus))
    header = hdu.offset - 2880 * (-(-80 * (len(hdu.images) + 1) // 2880))
    end = header + 80 * (len(hdu.images) + 1)
    kinds = {"card": (header, end - 80), "data": (hdu.offset, hdu.offset + hdu.length), "behind END": (end, hdu.offset)}
    first, behind = data.draw(st.sampled_from([span for span in kinds.values() if span[0] < span[1]]))
    content[data.draw(st.integers(first, behind - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with made.without("red"), tempfile.TemporaryDirectory() as directory:
        damaged = Path(directory) / made.l0.name
        damaged.write_bytes(content)
        try:
            found = [compare_with_now(damaged, made.making()), compare_l0s(damaged, made.l0, made.making().found.instrument)]
        except InputError:
            return
        for told in found:
            assert any("unexplained" in causes for causes in told.causes)
            others = [change for change in told.changes if change.causes and change.causes != ("unexplained",)]
            assert all((change.part, change.hdu) == ("card", "PRIMARY") for change in others)  # such as FAVER and OUTDIR: who knows


def test_an_l0_whose_times_are_no_times_is_no_record(made, tmp_path):
    damaged = tmp_path / made.l0.name
    damaged.write_bytes(made.l0.read_bytes().replace(b"DATE-BEG= '2024-04", b"DATE-BEG= '2024m04"))
    with made.without("red"), pytest.raises(InputError, match="holds no telemetry to replay: '2024m04"):
        compare_with_now(damaged, made.making())


def test_bytes_behind_an_l0_and_its_checksums_are_told_apart_from_what_the_yaml_changed(made, tmp_path):
    padded = bytearray(made.l0.read_bytes() + b"more")
    hdu = scan(str(made.l0)).hdus[0]
    padded[hdu.offset - 1] = ord("x")
    damaged = tmp_path / made.l0.name
    damaged.write_bytes(padded)
    with made.without("red"):
        found = compare_with_now(damaged, made.making(yaml=RENAMED))
    assert found.causes == {"YAML": 3, "unexplained": 2}
    told = [line for line in map(click.unstyle, change_lines(found)) if "YAML" not in line]
    place = told.index("PRIMARY; unexplained: was the L0 changed?")
    assert told[place + 1] == "  - CHECKSUM does not fit the HDU"
    assert told[-2:] == ["FINDINGS; unexplained: was the L0 changed?", "  - 4 bytes after the last HDU"]
    same = compare_l0s(damaged, damaged, made.making().found.instrument)
    assert not same.changes


def test_a_damaged_table_of_the_l0_is_no_record_of_what_it_was_made_of(made, tmp_path):
    content = bytearray(made.l0.read_bytes())
    table = next(h for h in scan(str(made.l0)).hdus if h.extname == "TELEMETRY")
    place = content.index(b"Airmass", table.offset)
    content[place] = ord("X")
    damaged = tmp_path / made.l0.name
    damaged.write_bytes(content)
    with made.without("red"):
        own = [c for c in compare_with_now(damaged, made.making()).changes if not c.expected]
    assert [(c.hdu, c.keyword, c.causes) for c in own] == [("TELEMETRY", "dcs1.AIRMASS", ("unexplained",))]


def test_without_a_history_the_telemetry_is_taken_as_the_l0_has_it(made):
    with made.without("red"):
        assert not compare_with_now(made.l0, made.making(history=None), replay=True).differs
        assert compare_with_now(made.l0, made.making(history=None)).causes.keys() == {"telemetry"}


def test_telemetry_of_other_times_is_not_taken_from_the_l0(made, tmp_path):
    nobody = YAML.replace(re.search(r"  begin: \{from: kpfexpose.*\n  end: .*\n", YAML)[0], "")  # the files tell when it was
    path = made.assemble(made.making(yaml=nobody, directory=tmp_path))
    with made.edited("green", lambda c: c.replace(b"2024-04-22T08:00:32.886179", b"2024-04-22T08:00:32.986179")):
        with pytest.raises(TelemetryError, match="name the keyword history with --history"):
            compare_with_now(path, made.making(yaml=nobody, directory=tmp_path, history=None), replay=True)
        found = compare_with_now(path, made.making(yaml=nobody, directory=tmp_path))
    assert found.causes.keys() == {"the sub-FITS of green"}


def test_a_version_is_compared_with_the_one_that_it_replaced(made, tmp_path):
    before = made.making(directory=tmp_path)
    with made.without("red"):
        made.assemble(replace(before, found=made.making().found, history=made.open(made.history)))
    after = made.making(directory=tmp_path, yaml=RENAMED, corrections=CORRECTED, history=made.open(made.filled))
    newest = made.assemble(after, "red came late")
    (old,) = (tmp_path / "superseded").iterdir()
    found = compare_l0s(old, newest, after.found.instrument)
    assert found.causes.keys() == {"YAML", "corrections", "telemetry", "the sub-FITS of red"}
    for cause in found.causes:
        assert SINCE[cause] <= {(c.hdu, c.keyword) for c in found.changes if c.causes == (cause,)}
    back = compare_l0s(newest, old, after.found.instrument)
    assert back.causes == found.causes
    assert not compare_l0s(newest, newest, after.found.instrument).changes
    assert compare_with_now(newest, replace(after, history=made.open(made.filled))).differs is False


def test_an_l0_gives_back_the_headers_and_the_corrections_that_it_was_made_of(made, tmp_path):
    making = made.making(directory=tmp_path, corrections=CORRECTED)
    recording = read_recording(made.assemble(making))
    instrument = making.found.instrument
    told = recorded_found(instrument, recording)
    assert told.subs.keys() == making.found.subs.keys()
    for origin, sub in making.found.subs.items():
        assert [(h.images, h.length) for h in told.subs[origin].hdus] == [(h.images, h.length) for h in sub.hdus]
        assert told.subs[origin].path == sub.path
    given = {(c.what, c.value, c.source) for c in recorded_corrections(instrument, recording)}
    assert given == {(c.what, c.value, c.source) for c in CORRECTED}


class Away:
    """A history whose server is away."""

    def as_of(self, *_):
        raise TelemetryError("the server is away")

    during = as_of

    def interrupt(self): ...

    def close(self): ...


def test_a_history_that_does_not_answer_is_no_difference(made):
    with made.without("red"), pytest.raises(TelemetryError, match=r"the server is away; .*; nothing was compared"):
        compare_with_now(made.l0, made.making(history=Away()))


def test_an_l0_that_was_made_while_the_history_was_away_tells_that_telemetry_came_since(made, tmp_path):
    path = made.assemble(made.making(directory=tmp_path, history=Away()))
    assert compare_with_now(path, made.making(directory=tmp_path)).causes.keys() == {"telemetry"}
    assert not compare_with_now(path, made.making(directory=tmp_path, history=Away())).differs


def test_a_setting_of_the_telemetry_that_the_l0_cannot_answer_is_asked_of_the_history(made):
    """Another offset asks for values of moments that the L0 does not hold; the change is the YAML's all the same."""
    moved = YAML.replace("offset: 0.1 s", "offset: 9.1 s")
    assert moved != YAML
    with made.without("red"):
        found = compare_with_now(made.l0, made.making(yaml=moved))
    assert found.differs
    assert found.causes.keys() == {"YAML"}


def test_the_sub_fits_of_an_l0_are_looked_for_in_a_night_and_never_where_it_says(made, kpf, tmp_path):
    assert find_again(kpf, made.l0, made.night.directory).frame == made.frame
    with pytest.raises(ConfigurationError, match="name the night"):
        find_again(kpf, made.l0, None)
    with pytest.raises(InputError, match="no such directory"):
        find_again(kpf, made.l0, tmp_path / "nowhere")
    assert home_of(Path("/data/L0/superseded/a.v1.fits")) == home_of(Path("/data/L0/a.fits")) == Path("/data/L0")
    assert night_of(Path("/data/2024apr21/L0"), "L0") == Path("/data/2024apr21")


def test_the_sub_fits_of_an_exposure_without_a_number_are_found_by_their_names(one, tmp_path):
    exposure = kpf_night.make_night(tmp_path / "data", shape=(4, 4))
    path = exposure.sub_fits(exposure.frames[0])["green"]
    making = Making(found=find_given(one, [str(path)]), history=None, corrections=(), directory=tmp_path / "out", version="1")
    l0 = assemble(making.found, None, making.directory, version="1", clock=lambda: 1).path
    again = replace(making, found=find_again(one, l0, path.parent))
    assert [s.path for s in again.found.subs.values()] == [str(path)]
    assert not compare_with_now(l0, again).differs
