"""Checksums: astropy agrees, whatever the bytes and however they are cut up."""

import numpy as np
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from assembler.fits.sums import Total, encode, fold, word_sum

WORDS = st.lists(st.integers(0, 2**32 - 1), max_size=200).map(lambda w: np.array(w, ">u4").tobytes())


@given(WORDS)
def test_astropy_sums_alike(data):
    oracle = fits.ImageHDU()._compute_checksum(np.frombuffer(data, np.uint8))
    assert word_sum(data) == int(oracle)


@given(WORDS, st.integers(0, 50))
def test_the_sum_of_parts_is_the_sum(data, words):
    cut = 4 * words
    assert fold(word_sum(data[:cut]) + word_sum(data[cut:])) in (word_sum(data), fold(word_sum(data)))


@given(st.lists(st.binary(max_size=13), max_size=8))
def test_a_total_is_the_sum_however_the_bytes_are_cut_up(parts):
    total = Total()
    for part in parts:
        total.add(part)
    whole = b"".join(parts)
    assert total.value == word_sum(whole.ljust(-(-len(whole) // 4) * 4, b"\0"))


@given(st.integers(0, 2**32 - 1))
def test_astropy_encodes_alike(total):
    assert encode(total) == fits.ImageHDU()._char_encode(0xFFFFFFFF - total)
    assert encode(total).isalnum()
