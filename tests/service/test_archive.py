"""Archiving: the same promises in a directory, behind SSH, and in S3."""

import io
import json
import os
import subprocess
import sys
from contextlib import closing
from dataclasses import replace

import pytest
import stores
from kpf_exposure import PATHS, exposure

from assembler.core.checksum_lines import SHA256SUMS
from assembler.core.places import TEMPLATE, Place
from assembler.core.receipts import Content, ReceivedL0, from_json, to_json
from assembler.errors import ConfigurationError, InputError, OutputError, TakenError
from assembler.service import archive_candidates, destination_directory, destination_s3, destination_sftp
from assembler.service.archive import Order, archive_l0, check_l0, read_receipt
from assembler.service.archive_results import RefusalError
from assembler.service.destination import read_content
from assembler.service.destination_urls import open_destination

KINDS = ("directory", "sftp", "s3")
FOLDER = "20240422"
ARCHIVED = 1_790_000_100 * 10**9


@pytest.fixture(params=KINDS)
def store(request, make_store):
    return make_store(request.param)


@pytest.fixture
def archive(store):
    """Return what archives L0s in the store."""
    with closing(open_destination(store.url)) as destination:

        def run(*paths, told=None, template=TEMPLATE):
            order = Order(
                destination=destination, template=template, rules=None, compress=False, version="test", clock=lambda: ARCHIVED, told=told
            )
            return [archive_l0(path, order) for path in paths]

        run.destination = destination
        yield run


def states(results):
    return [(r.state, r.kind) for r in results]


def test_what_is_archived_once_is_a_duplicate_ever_after(store, archive, l0s, tmp_path):
    before = {p: (p.read_bytes(), os.stat(p)) for p in l0s}
    told = []
    first = archive(*l0s, told=told.append)
    assert states(first) == [("accepted", "")] * 3, [r.reason for r in first]
    files = store.files()
    stores.check_folder(files, FOLDER, [p.name for p in l0s], tmp_path)
    assert [files[f"{FOLDER}/{p.name}"] for p in l0s] == [p.read_bytes() for p in l0s]
    again = archive(*l0s, told=told.append)
    assert states(again) == [("duplicate", "")] * 3
    assert store.files() == files
    assert told == [*first, *again]
    assert [r.receipt for r in first] == [r.receipt for r in again]
    assert {p: (p.read_bytes(), os.stat(p)) for p in l0s}.keys() == before.keys()
    assert all((p.read_bytes(), os.stat(p).st_mtime_ns, os.stat(p).st_ino) == (b, s.st_mtime_ns, s.st_ino) for p, (b, s) in before.items())


def test_the_receipt_tells_what_there_is_and_of_what_it_was_made(store, archive, l0s):
    (result,) = archive(l0s[0])
    receipt = read_receipt(archive.destination, Place(folder=(FOLDER,), name=l0s[0].name))
    assert receipt == result.receipt
    assert receipt.content == read_content(io.BytesIO(l0s[0].read_bytes()).read) == receipt.l0.content
    assert (receipt.l0.version, receipt.l0.assembler, receipt.l0.ofname) == (1, "test", l0s[0].name)
    assert (receipt.archived, receipt.archiver, receipt.rules, receipt.compressed) == ("2026-09-21T14:15:00", "test", None, None)
    night = l0s[0].parent.parent / "data" / "2024apr21"
    paths = {origin: night / exposure(0).path(origin) for origin in PATHS}
    assert {s.origin: s.content for s in receipt.sources} == {o: read_content(io.BytesIO(p.read_bytes()).read) for o, p in paths.items()}
    assert {f.code for f in receipt.findings} >= {"time-chosen", "time-candidate"}
    assert store.files()[f"{FOLDER}/{l0s[0].name}.receipt.json"] == to_json(receipt)
    assert read_receipt(archive.destination, Place(folder=(FOLDER,), name="other.fits")) is None


def test_another_file_of_the_name_is_never_overwritten(store, archive, l0s):
    store.write(f"{FOLDER}/{l0s[0].name}", b"not this one")
    (result,) = archive(l0s[0])
    assert states([result]) == [("refused", "content")]
    assert result.exit_code == 1
    assert "exists with other content" in result.reason
    assert store.files() == {f"{FOLDER}/{l0s[0].name}": b"not this one"}


def test_whatever_is_missing_is_completed(store, archive, l0s, tmp_path):
    archive(*l0s)
    whole = store.files()
    receipt = f"{FOLDER}/{l0s[1].name}.receipt.json"
    for gone in ([receipt], [f"{FOLDER}/{SHA256SUMS}"], [receipt, f"{FOLDER}/{SHA256SUMS}"]):
        for name in gone:
            store.remove(name)
        assert states(archive(l0s[1])) == [("duplicate", "")]
        stores.check_folder(store.files(), FOLDER, [p.name for p in l0s], tmp_path)
        assert store.files() == whole
    store.remove(f"{FOLDER}/{l0s[1].name}")  # its receipt is left, and tells what it has to be
    assert states(archive(l0s[1])) == [("accepted", "")]
    assert store.files() == whole


def test_lines_of_others_in_sha256sums_stay(store, archive, l0s):
    line = "00" * 32
    foreign = f"# ours since 2019\n{line}  calibration.fits\n{line} *other name.fits"
    store.write(f"{FOLDER}/{SHA256SUMS}", foreign.encode())
    assert states(archive(*l0s)) == [("accepted", "")] * 3
    lines = store.files()[f"{FOLDER}/{SHA256SUMS}"].decode().split("\n")
    assert "\n".join(lines[:3]) == foreign
    assert [line.partition("  ")[2] for line in lines[3:]] == [*(p.name for p in l0s), ""]


@pytest.mark.parametrize("kind", ["line", "receipt", "no receipt", "receipt of another"])
def test_what_contradicts_an_l0_refuses_it_and_stays(store, archive, l0s, kind):
    mine = f"{FOLDER}/{l0s[0].name}"
    if kind == "line":
        store.write(f"{FOLDER}/{SHA256SUMS}", f"{'0' * 64}  {l0s[0].name}\n".encode())
    elif kind == "no receipt":
        store.write(f"{mine}.receipt.json", b"[" * 100_000)
    else:
        receipt = archive(l0s[1])[0].receipt
        if kind == "receipt":
            receipt = replace(receipt, name=l0s[0].name, l0=replace(receipt.l0, version=7))
        store.write(f"{mine}.receipt.json", to_json(receipt))
    before = store.files()
    (result,) = archive(l0s[0])
    assert states([result]) == [("refused", "content")]
    assert ("version 7, and this is version 1" in result.reason) == (kind == "receipt")
    assert store.files() == before


@pytest.mark.parametrize("end", ["{name}", "./{name}", "{name}\r"])
@pytest.mark.parametrize("right", [False, True])
def test_any_line_that_says_something_else_of_an_l0_refuses_it_and_one_more_that_says_the_same_does_not(make_store, l0s, end, right):
    store = make_store("directory")
    with closing(open_destination(store.url)) as destination:
        order = Order(destination=destination, template=TEMPLATE, rules=None, compress=False, version="test", clock=lambda: ARCHIVED)
        digest = archive_l0(l0s[0], order).receipt.content.sha256
        lines = store.files()[f"{FOLDER}/{SHA256SUMS}"] + f"{digest if right else '0' * 64}  {end.format(name=l0s[0].name)}\n".encode()
        store.write(f"{FOLDER}/{SHA256SUMS}", lines)
        result = archive_l0(l0s[0], order)
    assert states([result]) == [("duplicate", "") if right else ("refused", "content")]
    assert store.files()[f"{FOLDER}/{SHA256SUMS}"] == lines


def test_a_file_that_was_damaged_in_the_archive_is_no_duplicate(store, archive, l0s):
    archive(l0s[0])
    name = f"{FOLDER}/{l0s[0].name}"
    data = bytearray(store.files()[name])
    data[100_000] ^= 1
    store.write(name, bytes(data))
    (result,) = archive(l0s[0])
    assert states([result]) == [("refused", "content")]
    assert "is not what its receipt says" in result.reason


def test_what_arrives_damaged_is_no_success(store, archive, l0s, monkeypatch):
    """Has a byte change on its way; only S3 has a name for it by then, and nothing removes that."""
    for module in (destination_directory, destination_sftp, destination_s3):

        def damaging(*words, whole=module.chunks):
            for piece in whole(*words):
                yield bytes([piece[0] ^ 1]) + piece[1:]

        monkeypatch.setattr(module, "chunks", damaging)
    (result,) = archive(l0s[0])
    assert states([result]) == [("failed", "storage")]
    assert result.exit_code == 4
    assert "what arrived is not what was sent" in result.reason
    monkeypatch.undo()
    assert list(store.files()) == ([f"{FOLDER}/{l0s[0].name}"] if store.url.startswith("s3:") else [])


def test_two_archivers_at_once_lose_nothing(store, l0s, tmp_path):
    """Both have all L0s, one from the front and one from the back, so that they meet; none of them finds trouble."""
    orders = [l0s, l0s[::-1], l0s[1:] + l0s[:1]]
    environ = {**os.environ, **store.environ}
    program = [sys.executable, "-m", "assembler", "archive", "--json", "--to", store.url]
    for round_ in range(3):
        template = f"round{round_}/{{name}}"
        running = [
            subprocess.Popen(
                [*program, "--template", template, *map(str, order)], env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            for order in orders
        ]
        told = [process.communicate() for process in running]
        assert [p.returncode for p in running] == [0] * 3, told
        results = [json.loads(out) for out, _ in told]
        counts = [sum(r["state"] == "accepted" and r["l0"] == str(l0) for result in results for r in result) for l0 in l0s]
        assert counts == [1] * 3
        stores.check_folder(store.files(), f"round{round_}", [p.name for p in l0s], tmp_path)


def test_a_name_is_given_once_and_never_over_another(store, archive):
    place = Place(folder=("a", "b"), name="c.fits")

    def add(data):
        archive.destination.add(place, io.BytesIO(data), read_content(io.BytesIO(data).read))

    add(b"first")
    with pytest.raises(TakenError, match="exists, and nothing in an archive is overwritten"):
        add(b"second")
    archive.destination.replace(place.beside("d"), b"one")
    archive.destination.replace(place.beside("d"), b"two")
    assert store.files() == {"a/b/c.fits": b"first", "a/b/d": b"two"}
    assert archive.destination.names(("a", "b")) == {"c.fits", "d"}
    assert archive.destination.names(("a", "nothing")) == frozenset()
    assert archive.destination.read(place, 5) == b"first"
    with pytest.raises(OutputError, match="larger than"):
        archive.destination.read(place, 4)


def test_an_l0_that_is_replaced_while_it_is_read_is_read_again(l0s, archive, store, tmp_path, monkeypatch):
    """Another version takes the name while the first one is verified; what is archived is all of one of them."""
    mine, other = tmp_path / "L0" / l0s[0].name, tmp_path / "other.fits"
    mine.parent.mkdir()
    mine.write_bytes(b"not an L0 any more")
    other.write_bytes(l0s[0].read_bytes())
    verify, calls = archive_candidates.read_recording, []

    def replacing(path):
        if not calls:
            os.replace(other, mine)
        calls.append(path)
        return verify(path)

    monkeypatch.setattr(archive_candidates, "read_recording", replacing)
    mine.write_bytes(l0s[0].read_bytes())
    assert states(archive(mine)) == [("accepted", "")]
    assert len(calls) == 2
    assert store.files()[f"{FOLDER}/{mine.name}"] == l0s[0].read_bytes()


@pytest.mark.parametrize("error", [None, InputError("CARDS: is no table of an L0"), RefusalError("verification", "DATASUM does not fit")])
def test_an_l0_that_changes_all_the_time_is_to_be_tried_again_whatever_it_looks_like(l0s, archive, store, tmp_path, monkeypatch, error):
    mine = tmp_path / l0s[0].name
    mine.write_bytes(l0s[0].read_bytes())
    verify = archive_candidates.read_recording

    def touching(path):
        found = verify(path)
        os.utime(path, ns=(0, os.stat(path).st_mtime_ns + 10**9))
        if error:
            raise error
        return found

    monkeypatch.setattr(archive_candidates, "read_recording", touching)
    (result,) = archive(mine)
    assert (result.state, result.kind, result.reason) == ("failed", "input", "changed while it was read")
    assert store.files() == {}


@pytest.mark.parametrize(
    ("damage", "state", "told"),
    [
        (lambda data: data[:-2880], ("refused", "input"), "the header asks for"),
        (lambda data: data[:100_000] + bytes([data[100_000] ^ 1]) + data[100_001:], ("refused", "verification"), "DATASUM"),
        (lambda _: b"no FITS file at all", ("refused", "input"), "does not begin with SIMPLE"),
        (lambda data: data + b"\0" * 2880, ("refused", "verification"), "after the last HDU"),
    ],
)
def test_what_is_no_whole_l0_is_refused(make_store, l0s, tmp_path, damage, state, told):
    store = make_store("directory")
    broken = tmp_path / l0s[0].name
    broken.write_bytes(damage(l0s[0].read_bytes()))
    order = Order(
        destination=open_destination(store.url), template=TEMPLATE, rules=None, compress=False, version="test", clock=lambda: ARCHIVED
    )
    result = archive_l0(broken, order)
    assert states([result]) == [state]
    assert told in result.reason
    assert states([check_l0(broken, TEMPLATE, None)]) == [state]
    assert store.files() == {}


def test_an_l0_under_another_name_or_none_is_refused(l0s, tmp_path):
    renamed = tmp_path / "KP.other.fits"
    renamed.write_bytes(l0s[0].read_bytes())
    assert states([check_l0(renamed, TEMPLATE, None)]) == [("refused", "verification")]
    result = check_l0(tmp_path / "nothing.fits", TEMPLATE, None)
    assert (result.state, result.exit_code, result.reason) == ("refused", 3, "there is no such file")
    assert states([check_l0(l0s[0], TEMPLATE, None)]) == [("lawful", "")]


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/path",
        "s3://user:secret@bucket/path",
        "sftp://user:secret@host/path",
        "sftp://host",
        "sftp://host:port/path",
        "file://elsewhere/path",
        "s3://",
        "s3://bucket/../other",
        "https://user:secret@host/path?token=secret",
        "memory://x",
    ],
)
def test_what_is_no_store_is_told_without_its_secrets(url):
    with pytest.raises(ConfigurationError) as told:
        open_destination(url)
    assert "secret@" not in str(told.value)
    assert "token" not in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(("url", "library", "extra"), [("s3://bucket/x", "s3fs", "s3"), ("sftp://host/x", "paramiko", "sftp")])
def test_an_extra_that_is_not_installed_is_named(monkeypatch, url, library, extra):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConfigurationError, match=rf"needs {library}; install the extra: pip install 'l0-assembler\[{extra}\]'"):
        open_destination(url)


@pytest.mark.parametrize("name", ["SHA256SUMS", "a.receipt.json", "two words.fits", "-\x1b[31m.fits"])
def test_a_name_that_an_archive_cannot_have_is_refused(tmp_path, name):
    """The YAML of an instrument may name its L0s as it likes."""
    candidate = archive_candidates.Candidate(
        path=tmp_path / name,
        stream=io.BytesIO(),
        signature=(0, 0, 0),
        l0=ReceivedL0(name=name, ofname=name, content=Content(size=0, sha256="0" * 64), version=1, assembler=None, yaml=None),
        begin=0,
        sources=(),
        findings=(),
        warnings=(),
    )
    with pytest.raises(RefusalError) as told:
        candidate.place(TEMPLATE)
    assert told.value.kind == "name"
    assert str(told.value).isprintable()


def test_a_receipt_is_checked_as_data_from_outside(archive, l0s):
    receipt = archive(l0s[0])[0].receipt
    assert from_json(to_json(receipt)) == receipt


def test_the_paths_of_an_archive_are_those_of_l0s_alone(archive, store, l0s):
    """A receipt of a stranger, and names that no archiver gives, are nobody's business."""
    store.write(f"{FOLDER}/strange name.fits.receipt.json", b"{}")
    store.write(f"{FOLDER}/strange name.fits", b"")
    store.write(f"{FOLDER}/broken.fits.receipt.json", b"{}")
    store.write(f"{FOLDER}/broken.fits", b"")
    assert states(archive(l0s[0])) == [("accepted", "")]
    assert list(store.files()[f"{FOLDER}/{SHA256SUMS}"].decode().split()[1:]) == [l0s[0].name]
