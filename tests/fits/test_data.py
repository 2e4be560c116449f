"""Data units side by side: sums, and every byte that differs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assembler.errors import InputError
from assembler.fits import data
from assembler.fits.data import Span, compare_data, sum_data
from assembler.fits.sums import fold, word_sum


@given(
    st.binary(min_size=1, max_size=40).map(lambda b: b.ljust(-(-len(b) // 4) * 4, b"\0")),
    st.dictionaries(st.integers(0, 39), st.integers(1, 255), max_size=5),
    st.sampled_from([8, 16, 1 << 20]),
)
def test_each_byte_that_differs_counts_wherever_the_buffer_ends(tmp_path_factory, old, flips, buffer):
    new = bytes(byte ^ flips.get(place, 0) for place, byte in enumerate(old))
    path = tmp_path_factory.mktemp("data") / "both"
    path.write_bytes(b"head" + old + new)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "_BUFFER", buffer)
        one, other = (Span(path=str(path), offset=4 + n * len(old), length=len(old)) for n in (0, 1))
        told = compare_data(one, other)
        assert sum_data(one) == told.old_sum == fold(word_sum(old))
    places = [place for place, (a, b) in enumerate(zip(old, new, strict=True)) if a != b]
    assert (told.new_sum, told.count, told.first) == (fold(word_sum(new)), len(places), places[0] if places else None)


def test_words_that_changed_places_sum_up_the_same_and_differ_all_the_same(tmp_path):
    (tmp_path / "a").write_bytes(b"\0\0\0\1\0\0\0\2")
    (tmp_path / "b").write_bytes(b"\0\0\0\2\0\0\0\1")
    told = compare_data(*(Span(path=str(tmp_path / n), offset=0, length=8) for n in "ab"))
    assert (told.old_sum == told.new_sum, told.count, told.first) == (True, 2, 3)


def test_what_one_has_more_differs_and_a_file_that_ends_too_early_is_told(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(bytes(range(12)))
    told = compare_data(Span(path=str(path), offset=0, length=4), Span(path=str(path), offset=0, length=12))
    assert (told.count, told.first) == (8, 4)
    with pytest.raises(InputError, match="became shorter"):
        compare_data(Span(path=str(path), offset=0, length=4), Span(path=str(path), offset=0, length=16))
