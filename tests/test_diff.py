"""`assembler diff`: what people read, what programs get, and its exit codes."""

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assembler.changes import change_lines
from assembler.core.difference import Row, Unit, compare_units
from assembler.service.comparison import Comparison

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "tests" / "golden" / "diff.txt"


@pytest.fixture
def other_yaml(tmp_path) -> Path:
    """Return a YAML with one name changed."""
    path = tmp_path / "other.yaml"
    path.write_text((ROOT / "prefixes.yaml").read_text().replace("ACFMD5: GRACFSUM", "ACFMD5: GRACFNEW"))
    return path


def test_an_l0_that_would_come_out_the_same_is_the_same(call, l0, history_url):
    code, out, told = call("diff", l0, "--history", history_url)
    assert (code, out) == (0, "PRIMARY, as always or as follows from it: DATE\n")
    assert told == "nothing differs but what tells when and as which version it was made\n"


def test_what_differs_is_told_by_hdu_and_cause(call, l0, night, history_url, other_yaml, request):
    night.sub_fits(night.frames[0])["ca_hk"].unlink()
    code, out, told = call("diff", l0, "--history", history_url, "-i", other_yaml)
    text = re.sub(r"  [-+] (CA_HKFN|CONTINUE).*\n", "", out) + told  # without the paths of the test
    if request.config.getoption("--renew-golden"):
        GOLDEN.write_text(text, encoding="ascii")
    assert text == GOLDEN.read_text(encoding="ascii")
    assert code == 1


@pytest.mark.parametrize(("setting", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_a_terminal_gets_colours_unless_it_is_told_otherwise(l0, tmp_path, setting, coloured):
    changed = tmp_path / l0.name
    changed.write_bytes(l0.read_bytes().replace(b"time zone", b"TIME ZONE", 1))
    mine, theirs = pty.openpty()
    words = [sys.executable, "-m", "assembler", "diff", str(l0), "--against", str(changed)]
    screen = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | setting
    with subprocess.Popen(words, stdout=theirs, stderr=subprocess.DEVNULL, cwd=ROOT, env=screen):
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # the end of a terminal
            while part := os.read(mine, 65_536):
                shown += part
        os.close(mine)
    assert b"TIME ZONE" in shown
    assert (b"\x1b[3" in shown) == coloured


def test_programs_get_every_change_whole(call, l0, night, history_url, other_yaml):
    code, out, told = call("diff", l0, "--history", history_url, "-i", other_yaml, "--night", night.directory, "--json")
    document = json.loads(out)
    assert (code, told, document["same"], document["causes"]) == (1, "", False, {"YAML": 3})
    (added,) = [c for c in document["changes"] if c["kind"] == "added"]
    assert (added["part"], added["hdu"], added["keyword"], added["causes"]) == ("card", "PRIMARY", "GRACFNEW", ["YAML"])
    assert added["new"][0].startswith("GRACFNEW= ")
    assert {c["keyword"] for c in document["changes"] if c["expected"]} == {"DATE", "YAMLSHA"}
    (date,) = [c for c in document["changes"] if c["keyword"] == "DATE"]
    assert date["new"] >= date["old"]  # it would be made now, and not in 1970


def test_an_l0_is_compared_with_another_one(call, l0, night, history_url, other_yaml):
    frame = ("assemble", night.directory, "--frame", night.frames[0], "--history", history_url, "-i", other_yaml)
    assert call(*frame, "--supersede", "renamed")[0] == 0
    old = l0.parent / "superseded" / "KP.20240422.28832.89.v1.fits"
    code, _, told = call("diff", old, "--against", l0, "-i", other_yaml)
    assert (code, told) == (1, "3 differences: 3 by YAML\n")
    assert call("diff", l0, "--against", l0)[0] == 0
    assert call("diff", old, "-i", "prefixes.yaml", "--history", history_url)[0] == 0  # of a superseded one the night is found, too


def test_a_refusal_shows_what_differs_and_why(call, l0, night, history_url, other_yaml):
    before = l0.read_bytes()
    code, out, told = call("assemble", night.directory, "--frame", night.frames[0], "--history", history_url, "-i", other_yaml)
    assert (code, out) == (4, "")
    assert "PRIMARY, by YAML\n  - GRACFSUM= " in told
    assert told.splitlines()[-1].endswith(
        "--supersede REASON makes the next version, an L0 is never overwritten (3 differences: 3 by YAML)"
    )
    assert l0.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("nowhere.fits",), 3, "there is no such file"),
        (("README.md",), 3, "no FITS file"),
        (("{l0}", "--against", "README.md"), 3, "no FITS file"),
        (("{l0}", "--night", "nowhere"), 3, "no such directory"),
        (("{l0}", "--against", "{l0}", "--night", "."), 2, "do not go with it"),
        (("{green}",), 3, "names no sub-FITS of KPF"),
        (("{l0}", "-i", "examples/stis.yaml"), 3, "names no sub-FITS of STIS"),
        (("{l0}", "--against", "{l0}", "-i", "examples/stis.yaml"), 3, "names no sub-FITS of STIS"),
        (("{l0}", "--night", "docs"), 3, r"^assembler: docs: has no sub-FITS of .*\.fits; name the night that they are in with --night$"),
        (("{l0}", "--history", "sqlite:///nowhere.db"), 5, "nowhere.db"),
    ],
)
def test_what_is_wrong_is_one_clear_line(call, l0, night, words, code, told):
    places = {"{l0}": str(l0), "{green}": str(night.sub_fits(night.frames[0])["green"])}
    done, out, said = call("diff", *(places.get(word, word) for word in words))
    assert (done, out, said.count("\n")) == (code, "", 1)
    assert re.search(told, said)


@given(st.lists(st.text(max_size=80), min_size=6, max_size=6))
def test_nothing_that_a_terminal_would_act_on_is_printed_and_a_blank_card_is_named(texts):
    card, other, row, cell, hdu, fault = texts
    old = Unit(name=hdu, cards=(card, " " * 80), rows=(Row(name=row, cells=(cell,)),), digest="1", faults=(fault,))
    new = Unit(name=hdu, cards=(other,), rows=(Row(name=row, cells=(cell, other)),), digest="2")
    for pair in ((old, new), (new, old), (old, replace(new, name=row))):
        lines = list(change_lines(Comparison(path=card, against=other, changes=compare_units([pair[0]], [pair[1]]))))
        assert all(click.unstyle(line).isprintable() for line in lines)
    (blank,) = compare_units([Unit(name="A", cards=())], [Unit(name="A", cards=(" " * 80,))])
    told = [click.unstyle(line) for line in change_lines(Comparison(path="", against="", changes=(blank,)))]
    assert told[-1] == "  + (a blank card)"


def test_an_l0_elsewhere_asks_for_its_night(call, l0, tmp_path):
    elsewhere = tmp_path / "elsewhere" / l0.name
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(l0.read_bytes())
    code, _, told = call("diff", elsewhere)
    assert (code, "name the night" in told, str(l0.parent.parent) in told) == (2, True, True)
