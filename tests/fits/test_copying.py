"""Copying: each sub-FITS is hashed as it is on the disk, whatever is in it, and in however many threads."""

import gzip
import hashlib
import random
import sys
import threading
from pathlib import Path

import kpf_night
import pytest

from assembler.core.delivered import Delivered, Input, read_delivered
from assembler.errors import InputError
from assembler.fits import copying
from assembler.fits.blocks import scan
from assembler.fits.copying import BUFFER, DataUnit, copy_inputs
from assembler.fits.pace import at_once
from assembler.service.finder import find_night


def told_by(path: Path) -> dict[str, Delivered]:
    return {told.origin: told for told in read_delivered(next(h.images for h in scan(str(path)).hdus if h.extname == "CARDS"))}


@pytest.mark.parametrize("shape", [(32, 24), (1500, 1400)])  # in one thread, and in two
def test_the_header_of_cards_tells_length_and_sha256_of_every_sub_fits(kpf, make, tmp_path, shape):
    night = kpf_night.make_night(tmp_path / "night", shape=shape)
    found = find_night(kpf, night.directory, night.frames[0])
    told = told_by(make(found).path)
    assert told.keys() == found.subs.keys()
    for origin, sub in found.subs.items():
        content = Path(sub.path).read_bytes()
        assert told[origin].file == sub.name
        assert (told[origin].length, told[origin].digest) == (len(content), hashlib.sha256(content).hexdigest())


def test_what_is_hashed_is_the_content_with_what_follows_it(kpf, night, make):
    """Of what is compressed as a whole, that is what `gunzip` gives."""
    paths = night.sub_fits(night.frames[0])
    content = paths["red"].read_bytes()
    paths["red"].write_bytes(gzip.compress(content, 1))
    trailing = paths["green"].read_bytes() + bytes(range(256)) * 20
    paths["green"].write_bytes(trailing)
    told = told_by(make(find_night(kpf, night.directory, night.frames[0])).path)
    assert (told["red"].length, told["red"].digest) == (len(content), hashlib.sha256(content).hexdigest())
    assert (told["green"].length, told["green"].digest) == (len(trailing), hashlib.sha256(trailing).hexdigest())


def an_input(path: Path, *, is_compressed: bool = False) -> Input:
    status = path.stat()
    length = len(gzip.decompress(path.read_bytes())) if is_compressed else status.st_size
    delivered = Delivered(origin=path.name, file=path.name, length=length)
    signature = (status.st_size, status.st_mtime_ns, status.st_ino)
    return Input(delivered=delivered, number=1, path=str(path), compressed=is_compressed, signature=signature)


@pytest.mark.parametrize("seed", range(6))
def test_however_threads_take_turns_every_byte_is_hashed_in_order_and_lands_where_it_belongs(tmp_path, monkeypatch, seed):
    monkeypatch.setattr(copying, "BUFFER", 1 << 12)
    monkeypatch.setattr(copying, "SMALL", 0)
    chance = random.Random(seed)
    inputs, units, wanted = [], {}, bytearray()
    for number in range(5):
        path = tmp_path / str(number)
        content = chance.randbytes(2880 * chance.randint(1, 40) + chance.choice((0, 0, 77)))
        is_compressed = chance.random() < 0.3
        path.write_bytes(gzip.compress(content, 1) if is_compressed else content)
        inputs.append(an_input(path, is_compressed=is_compressed))
        places = sorted(chance.sample(range(len(content) // 2880 + 1), min(4, len(content) // 2880 + 1)))
        for start, end in zip(places[::2], places[1::2], strict=False):
            unit = DataUnit(offset=2880 * start, length=2880 * (end - start), hdu=len(wanted), target=len(wanted))
            units.setdefault(str(path), []).append(unit)
            wanted += content[2880 * start : 2880 * end]
    written = bytearray(len(wanted))

    def write(part: memoryview, offset: int) -> None:
        written[offset : offset + len(part)] = part

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        sums, digests = copy_inputs(inputs, units, 1 << 20, write, at_once)
    finally:
        sys.setswitchinterval(interval)
    assert written == wanted
    assert digests == {
        one.delivered.origin: hashlib.sha256(
            gzip.decompress(Path(one.path).read_bytes()) if one.compressed else Path(one.path).read_bytes()
        ).hexdigest()
        for one in inputs
    }
    assert sums.keys() == {unit.hdu for some in units.values() for unit in some}


@pytest.mark.parametrize("failing", [0, 1, 7, 40])
def test_a_disk_that_fails_in_the_middle_stops_all_threads(tmp_path, monkeypatch, failing):
    monkeypatch.setattr(copying, "BUFFER", 1 << 12)
    monkeypatch.setattr(copying, "SMALL", 0)
    path = tmp_path / "one"
    path.write_bytes(bytes(2880 * 100))
    unit = DataUnit(offset=0, length=2880 * 100, hdu=0, target=0)
    count = 0

    def write(_part: memoryview, _offset: int) -> None:
        nonlocal count
        count += 1
        if count > failing:
            raise OSError(28, "No space left on device")

    before = threading.active_count()
    with pytest.raises(OSError, match="No space left"):
        copy_inputs([an_input(path)], {str(path): [unit]}, 1 << 20, write, at_once)
    assert threading.active_count() == before


def test_a_sub_fits_that_became_shorter_is_told(tmp_path):
    path = tmp_path / "one"
    path.write_bytes(bytes(3 * BUFFER))
    one = an_input(path)
    path.write_bytes(bytes(2 * BUFFER))
    status = path.stat()
    same = (status.st_size, status.st_mtime_ns, status.st_ino)
    cheated = Input(delivered=one.delivered, number=1, path=one.path, compressed=False, signature=same)
    with pytest.raises(InputError, match="became shorter"):
        copy_inputs([cheated], {}, None, lambda _part, _offset: None, at_once)
