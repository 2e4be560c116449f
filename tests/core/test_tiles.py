"""Tiles: they cover an image once, the header comes back by renaming, and what it says is not believed."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assembler.core.cards import text_of, write_card
from assembler.core.exposure import Hdu
from assembler.core.tiles import compressed_cards, is_compressed, restored_cards, tiling_for, tiling_in

AXES = st.lists(st.one_of(st.integers(1, 9), st.integers(1, 200_000)), min_size=1, max_size=3)


def image(axes, bitpix=16, more=()):
    structure = {"XTENSION": "IMAGE", "BITPIX": bitpix, "NAXIS": len(axes), **{f"NAXIS{n}": a for n, a in enumerate(axes, 1)}}
    cards = [write_card(k, text_of(v), "as it was")[0] for k, v in (structure | {"PCOUNT": 0, "GCOUNT": 1}).items()]
    return hdu((*cards, *(card.ljust(80) for card in more)), length=abs(bitpix) // 8 * math.prod(axes))


def hdu(images, length=2881):
    return Hdu(index=1, images=tuple(images), offset=0, length=length, header_sum=0)


def table(tiling, images, changes=()):
    """Return the compressed HDU, with other values on some cards."""
    changes = dict(changes)
    cards = [*compressed_cards(images, tiling, heap=9, longest=9), "CHECKSUM".ljust(80), "DATASUM".ljust(80)]
    return hdu(write_card(c[:8].rstrip(), text_of(changes[c[:8].rstrip()]))[0] if c[:8].rstrip() in changes else c for c in cards)


@given(AXES, st.sampled_from([8, 16, 32, -32, -64]), st.integers(1, 3_000_000))
def test_runs_have_every_pixel_once_in_whole_tiles(axes, bitpix, most):
    tiling = tiling_for(image(axes, bitpix))
    if tiling is None:
        assert math.prod(axes) * abs(bitpix) // 8 <= 2880
        return
    periods = math.prod(axes) // tiling.period
    if periods * -(-tiling.period // most) > 10_000:
        return
    runs = list(tiling.runs(most))
    assert sum(columns * rows for columns, rows in runs) == math.prod(axes)
    assert sum(rows * -(-columns // tiling.unit) for columns, rows in runs) == tiling.count
    assert max(columns * rows for columns, rows in runs) <= max(most, tiling.unit)
    assert tiling.unit <= 65536


@given(AXES, st.sampled_from([8, 16, 32, -32, -64]))
def test_the_header_comes_back_and_tells_how_the_image_was_cut(axes, bitpix):
    cards = ("GAIN    =                  2.0", "NAXIS = 7", "COMMENT  NAXIS1", "CHECKSUM= 'x'", "DATASUM = '1'", "ZCMD    = 1")
    one = image(axes, bitpix, cards)
    if tiling := tiling_for(one):
        compressed = table(tiling, one.images)
        assert is_compressed(compressed)
        assert restored_cards(compressed) == one.images
        assert tiling_in(compressed) == tiling


@pytest.mark.parametrize(
    "card",
    ["ZIMAGE  = T", "ZNAXIS3 = 4", "ZSCALE  = 1.0", "ZBLANK  = -1", "TTYPE7  = 'X'", "TFIELDS = 3", "THEAP   = 8", "NAXIS3  = 1",
     "BITPIX  = 8", "XTENSION= 'IMAGE'", "SIMPLE  = T", "FZALGOR = 'GZIP'", "ZHECKSUM= '0'", "ZVAL1   = 32", "CHECKSUM= 'twice'"],
)  # fmt: skip
def test_a_card_that_would_mean_something_else_keeps_an_image_as_it_is(card):
    assert tiling_for(image([100, 100], more=["CHECKSUM= 'once'"])) is not None
    assert tiling_for(image([100, 100], more=["CHECKSUM= 'once'", card])) is None


@pytest.mark.parametrize(
    "changes",
    [{"PCOUNT": 3}, {"GCOUNT": 2}, {"XTENSION": "BINTABLE"}, {"BITPIX": 64}, {"NAXIS": 0}, {"NAXIS": 4}, {"NAXIS": 1}],
)
def test_only_plain_images_with_something_to_gain_are_compressed(changes):
    one = image([100, 100])
    assert tiling_for(image([9, 100])) is None
    cards = (write_card(c[:8].rstrip(), text_of(changes.get(c[:8].rstrip())))[0] if c[:8].rstrip() in changes else c for c in one.images)
    assert tiling_for(hdu(cards)) is None


@pytest.mark.parametrize("bitpix", [16, -32])
@pytest.mark.parametrize(
    "changes",
    [{"ZTILE1": 300_000_000, "ZNAXIS1": 300_000_000}, {"ZTILE1": 101}, {"ZTILE1": 50}, {"ZTILE1": 0}, {"ZTILE2": None}, {"ZNAXIS": 0},
     {"ZNAXIS": 999}, {"ZNAXIS": "two"}, {"ZNAXIS2": -1}, {"ZCMPTYPE": "PLIO_1"}, {"ZBITPIX": 64}, {"NAXIS1": 24}, {"NAXIS2": 10**12},
     {"ZNAXIS2": 10**12}],
)  # fmt: skip
def test_a_header_that_tells_of_other_tiles_is_refused(changes, bitpix):
    one = image([100, 10, 7], bitpix)
    tiling = tiling_for(one)
    assert tiling_in(table(tiling, one.images)) == tiling
    with pytest.raises(ValueError, match=r"is|are"):
        tiling_in(table(tiling, one.images, changes))


def test_a_compressed_image_of_others_is_not_taken_for_one_of_ours():
    one = image([100, 100])
    cards = ["ZIMAGE  =                    T / extension contains compressed image".ljust(80) if c.startswith("ZIMAGE") else c
             for c in table(tiling_for(one), one.images).images]  # fmt: skip
    assert not is_compressed(hdu(cards))
