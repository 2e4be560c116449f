"""Rice-compressed copies in an archive: the same L0 is known again, whichever way it was kept."""

import os
import tempfile
from contextlib import closing
from dataclasses import replace

import pytest
import stores

from assembler.core.places import TEMPLATE, Place
from assembler.errors import VerificationError
from assembler.fits import tiles
from assembler.service import archive_work
from assembler.service.archive import Order, archive_l0, read_receipt
from assembler.service.destination_urls import open_destination

FOLDER = "20240422"


@pytest.fixture
def order(tmp_path, monkeypatch):
    work, root = tmp_path / "work", tmp_path / "archive"
    work.mkdir()
    root.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(work))
    with closing(open_destination(str(root))) as destination:
        yield Order(destination=destination, template=TEMPLATE, rules=None, compress=True, version="test", clock=lambda: 0)
    assert os.listdir(work) == []


@pytest.fixture
def store(order):
    return stores.in_directory(order.destination.root, "", {})


def test_a_compressed_copy_gives_the_l0_back(order, store, l0s, tmp_path):
    first, again = [[archive_l0(p, order) for p in l0s] for _ in range(2)]
    assert [r.state for r in first] == ["accepted"] * 3, first[0].reason
    assert [r.state for r in again] == ["duplicate"] * 3
    names = [f"{p.name}.fz" for p in l0s]
    stores.check_folder(store.files(), FOLDER, names, tmp_path)
    for l0, result in zip(l0s, first, strict=True):
        receipt = read_receipt(order.destination, Place(folder=(FOLDER,), name=f"{l0.name}.fz"))
        assert receipt == result.receipt
        assert (receipt.compressed, receipt.name, receipt.l0.name) == ("rice", f"{l0.name}.fz", l0.name)
        assert receipt.l0.content.size == l0.stat().st_size > receipt.content.size
        back = tmp_path / "back" / l0.name
        tiles.decompress_l0(order.destination.root / FOLDER / receipt.name, back)
        assert back.read_bytes() == l0.read_bytes()


def test_without_its_receipt_it_is_known_by_compressing_it_again(order, store, l0s, tmp_path):
    archive_l0(l0s[0], order)
    name = f"{FOLDER}/{l0s[0].name}.fz"
    store.remove(f"{name}.receipt.json")
    assert archive_l0(l0s[0], replace(order, compress=False)).state == "duplicate"
    stores.check_folder(store.files(), FOLDER, [f"{l0s[0].name}.fz"], tmp_path)
    store.remove(f"{name}.receipt.json")
    store.write(name, b"something else")
    assert archive_l0(l0s[0], order).state == "refused"


def test_an_l0_is_kept_once_whichever_way_it_was_kept_first(order, store, l0s, tmp_path):
    plain = replace(order, compress=False)
    assert [archive_l0(l0s[0], o).state for o in (plain, order)] == ["accepted", "duplicate"]
    assert [archive_l0(l0s[1], o).state for o in (order, plain)] == ["accepted", "duplicate"]
    stores.check_folder(store.files(), FOLDER, [l0s[0].name, f"{l0s[1].name}.fz"], tmp_path)


def test_a_copy_that_does_not_give_the_l0_back_is_not_kept(order, store, l0s, monkeypatch):
    def broken(*_words):
        raise VerificationError("it does not come back")

    monkeypatch.setattr(tiles, "compress_l0", broken)
    result = archive_l0(l0s[0], order)
    assert (result.state, result.kind, result.reason) == ("refused", "verification", "it does not come back")
    assert store.files() == {}


def test_places_that_killed_archivers_left_are_removed_and_those_in_use_are_not(order, l0s):
    import fcntl

    home = order.destination.root.parent / "work"
    left, used = home / f"{archive_work._PREFIX}left", home / f"{archive_work._PREFIX}used"
    for path in (left, used):
        path.mkdir()
        (path / "copy").write_bytes(b"half")
    lock = os.open(used, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        assert archive_l0(l0s[0], order).state == "accepted"
        assert [p.name for p in home.iterdir()] == [used.name]
    finally:
        os.close(lock)
    assert archive_l0(l0s[1], order).state == "accepted"
