"""Places in an archive: whatever a header says, a place is inside, and every part of it is a plain name."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assembler.core.instants import parse_iso
from assembler.core.places import Place, check_part, check_template, place_of

BEGIN = parse_iso("2024-04-22T08:00:32.886179")
TEMPLATES = ("{name}", "{date}/{name}", "{year}/{month}-{day}/v{version}/{name}", "kpf/l0/{name}")


@pytest.mark.parametrize(
    ("template", "place"),
    [
        ("{date}/{name}", "20240422/a.fits"),
        ("{year}/{month}/{day}/{name}", "2024/04/22/a.fits"),
        ("kpf/v{version}/{name}", "kpf/v3/a.fits"),
        ("{name}", "a.fits"),
    ],
)
def test_a_template_gives_folders_and_the_name(template, place):
    assert str(place_of(check_template(template), "a.fits", BEGIN, 3)) == place


@pytest.mark.parametrize("part", ["", ".", "..", ".hidden", "a/b", "a\\b", "a b", "é", "a\n", "a\0", "~%00", "x" * 221, "$(x)", "*"])
def test_what_is_no_plain_name_is_none(part):
    with pytest.raises(ValueError, match=r"name|characters"):
        check_part(part)
    with pytest.raises(ValueError, match=r"name|characters"):
        Place(folder=(part,), name="a")
    with pytest.raises(ValueError, match=r"name|characters"):
        place_of("{date}/{name}", part, BEGIN, 1)


@given(st.sampled_from(TEMPLATES), st.text(max_size=30), st.one_of(st.none(), st.just(BEGIN)), st.one_of(st.none(), st.integers(1, 9)))
def test_no_name_leads_out_of_an_archive(template, name, begin, version):
    try:
        place = place_of(template, name, begin, version)
    except ValueError:
        return
    assert all(re.fullmatch(r"[A-Za-z0-9_+-][A-Za-z0-9._+-]*", part) for part in (*place.folder, place.name))


@pytest.mark.parametrize(
    "template",
    ["", "name", "/{name}", "{name}/", "../{name}", "{date}//{name}", ".{date}/{name}", "{name}/{name}", "{OBJECT}/{name}", "a b/{name}",
     "{date}/{name}.fits", "a/" * 30 + "{name}", "{/{name}", "{date!r}/{name}", "{}/{name}"],
)  # fmt: skip
def test_what_is_no_template_is_told(template):
    with pytest.raises(ValueError, match=r"the template"):
        check_template(template)


def test_the_name_of_an_l0_leaves_room_for_those_beside_it():
    place = place_of("{name}", "x" * 200, None, None)
    assert place.beside(f"{place.name}.fz.receipt.json").name.startswith(place.name)
    with pytest.raises(ValueError, match=r"has 201 characters"):
        place_of("{name}", "x" * 201, None, None)


def test_an_l0_that_does_not_tell_what_its_place_needs_has_none():
    with pytest.raises(ValueError, match=r"has no DATE-BEG that is a time"):
        place_of("{date}/{name}", "a.fits", None, 1)
    with pytest.raises(ValueError, match=r"has no L0VER"):
        place_of("{version}/{name}", "a.fits", BEGIN, None)
