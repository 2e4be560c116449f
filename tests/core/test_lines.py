"""Text of unknown origin becomes one line."""

from hypothesis import given
from hypothesis import strategies as st

from assembler.core.lines import as_line


@given(text=st.text(st.characters()) | st.binary() | st.integers() | st.lists(st.text()), longest=st.integers(3, 60))
def test_whatever_it_is_becomes_one_line_of_bounded_length_that_can_be_encoded(text, longest):
    line = as_line(text, longest)
    assert line.isprintable()
    assert len(line) <= longest
    assert line.encode().decode() == line


@given(text=st.text(st.characters(categories=["L", "N", "P", "S"])))
def test_what_is_printable_stays_as_it_is(text):
    assert as_line(text) == text


def test_what_cannot_tell_its_text_is_named_by_its_type():
    class Mute:
        def __str__(self):
            raise RuntimeError

    assert as_line(Mute()) == "<Mute>"
