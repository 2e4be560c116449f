"""The headers of an L0 from the command line: before its pixels, without them, and as a sidecar."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from astropy.io import fits
from commands import commands_of

from assembler.cli import command

SETTLED = "2024-04-22T08:01:30"
NAME = "KP.20240422.28832.89"


def test_write_prints_the_path_and_makes_all_three_of_the_same_cards(call, night, history_url, tmp_path, fitsverify):
    words = ("plan", night.directory, "--frame", night.frames[0], "--history", history_url)
    targets = {suffix: tmp_path / f"headers{suffix}" for suffix in (".fits", ".yaml", ".json")}
    for target in targets.values():
        code, out, told = call(*words, "--write", target)
        assert (code, out) == (0, f"{target}\n")
        assert "warning duration-differs" in told
    fitsverify(targets[".fits"])
    assert not (night.directory / "L0").exists()
    document = yaml.safe_load(targets[".yaml"].read_text())
    sidecar = json.loads(targets[".json"].read_text())
    with fits.open(targets[".fits"]) as hdus:
        assert [hdu["name"] for hdu in document] == [hdu.name for hdu in hdus]
        assert (sidecar["OFNAME"], hdus[0].header["HDRONLY"]) == (f"{NAME}.fits", f"{NAME}.fits")
        green = next(hdu for hdu in document if hdu["name"] == "GREEN_AMP1")
        values = {card["keyword"]: card["value"] for card in green["header"]}
        assert (values["NAXIS2"], hdus["GREEN_AMP1"].header["NAXIS2"]) == (32, 0)
        cards = {card["keyword"]: (card["value"], card.get("comment")) for card in document[0]["header"]}
        for keyword in ("AIRMASS", "DATE-BEG", "GREEN", "RDTM_ZO", "GRACFSUM", "FRAMENO"):
            assert (hdus[0].header[keyword], hdus[0].header.comments[keyword]) == cards[keyword]
            assert sidecar[keyword] == cards[keyword][0]


def test_what_is_planned_is_in_the_headers_of_the_l0_card_for_card(call, night, history_url, l0, tmp_path):
    call("plan", night.directory, "--frame", night.frames[0], "--history", history_url, "--write", tmp_path / "planned.yaml")
    call("plan", l0, "--write", tmp_path / "l0.yaml")
    planned, there = (yaml.safe_load((tmp_path / f"{name}.yaml").read_text()) for name in ("planned", "l0"))
    for mine, theirs in zip(planned, there, strict=True):
        sums = [card for card in theirs["cards"].splitlines() if card[:8].rstrip() not in ("CHECKSUM", "DATASUM")]
        differing = {a[:8] for a, b in zip(mine["cards"].splitlines(), sums, strict=True) if a != b}
        assert differing <= {"DATE    ", *(f"SHA{n}    " for n in range(1, 6))}


def test_from_telemetry_alone_there_is_a_header_before_any_sub_fits(call, history_url, tmp_path):
    words = ("plan", tmp_path / "tonight", "--frame", 215921, "--history", history_url, "--from-telemetry")
    code, out, _ = call(*words, SETTLED, "--write", tmp_path / "early.json")
    assert (code, out) == (0, f"{tmp_path / 'early.json'}\n")
    header = json.loads((tmp_path / "early.json").read_text())
    assert (header["OFNAME"], header["FRAMENO"], header["GREEN"], header["AIRMASS"]) == (f"{NAME}.fits", 215921, "NO", 1.43)
    assert header["OUTDIR"] == str(tmp_path / "tonight" / "L0")
    code, out, _ = call("plan", "--history", history_url, "--from-telemetry", "now", "--out", tmp_path, "--json")
    assert (code, json.loads(out)["filename"]) == (0, f"{NAME}.fits")
    code, out, _ = call("plan", "--history", history_url, "--from-telemetry", SETTLED, "--write", tmp_path / "early.fits", "--json")
    told = json.loads(out)
    assert (code, told["path"], told["l0"]) == (0, str(tmp_path / "early.fits"), f"{NAME}.fits")
    assert "from-telemetry" in {f["code"] for f in told["findings"]}


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--frame", "1", "tests", "--write", "x.fits"], 3, "no sub-FITS to assemble"),
        (["--frame", "1", "tests", "--write", "x.fits", "--history", "HISTORY"], 3, "; --from-telemetry TIME plans without them"),
        (["--write", "x.txt"], 2, "--write x.txt: headers are written as .fits, .yaml or .json"),
        (["--write", "x.fits"], 2, "name the sub-FITS"),
        (["--lint", "--write", "x.fits"], 2, "do not go with it"),
        (["--lint", "--from-telemetry", "now"], 2, "do not go with it"),
        (["--from-telemetry", "now"], 2, "name it with --history"),
        (["--from-telemetry", "noon", "--history", "HISTORY"], 2, "--from-telemetry 'noon': expected a date or a time in UTC"),
        (["--from-telemetry", "2400-01-01", "--history", "HISTORY"], 2, "is later than now"),
        (["--from-telemetry", "now", "--history", "HISTORY", "Makefile"], 2, "takes no sub-FITS"),
        (["--from-telemetry", "now", "--history", "HISTORY", "tests", "tests"], 2, "takes no sub-FITS"),
        (["--from-telemetry", "2024-04-22T08:00:40", "--history", "HISTORY"], 3, "has not ended as of 2024-04-22T08:00:40"),
        (["--from-telemetry", "2024-04-22T08:01:03", "--history", "HISTORY"], 3, "is settled at 2024-04-22T08:01:04.954200"),
        (["--from-telemetry", "2024-04-21", "--history", "HISTORY"], 3, "kpfexpose.STARTTIME has no value as of"),
        (["--from-telemetry", "now", "--history", "HISTORY", "-i", "examples/stis.yaml"], 2, "names no keyword of the history"),
        (["--from-telemetry", "now", "--history", "sqlite:///nowhere.db"], 5, "there is no history"),
        (["L0", "--history", "HISTORY", "--write", "x.json"], 2, "is an L0, whose headers are written as they are"),
        (["L0", "--write", "L0"], 4, "is there, and no headers that the assembler wrote"),
        (["L0", "--write", "Makefile/x.json"], 4, "cannot write here"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line_and_its_exit_code(call, history_url, l0, words, code, told):
    words = [{"HISTORY": history_url, "L0": str(l0)}.get(word, word) for word in words]
    given_code, out, err = call("plan", *words)
    assert (given_code, out, told in err, err.count("\n")) == (code, "", True, 1), err


def test_a_loop_over_a_night_makes_a_sidecar_beside_each_l0(l0, tmp_path):
    loop = f'for f in {l0.parent}/*.fits; do {sys.executable} -m assembler plan "$f" --write "${{f%.fits}}.json"; done'
    for _ in range(2):
        subprocess.run(["bash", "-c", loop], check=True, capture_output=True)
        assert sorted(os.listdir(l0.parent)) == [f"{NAME}.fits", f"{NAME}.json"]


@pytest.fixture
def sidecar(call, l0) -> Path:
    path = l0.with_suffix(".json")
    assert call("plan", l0, "--write", path)[0] == 0
    return path


def test_astrometadata_reads_the_sidecar_as_the_header_of_the_l0(sidecar, l0, capsys):
    pytest.importorskip("astro_metadata_translator")
    from astro_metadata_translator import FitsTranslator, StubTranslator
    from astro_metadata_translator.bin.translate import translate_or_dump_headers
    from astro_metadata_translator.file_helpers import read_basic_metadata_from_file
    from astro_metadata_translator.indexing import calculate_index, process_index_data, read_sidecar

    class OfTheTest(FitsTranslator, StubTranslator):
        """Translates what the sidecar has; chosen by its name alone."""

        name = "sidecar of the test"
        supported_instrument = None
        _trivial_map = {"instrument": "CURRINST", "telescope": "TELESCOP", "object": "TARGNAME"}  # noqa: RUF012

    read = read_sidecar(str(sidecar))
    header = read_basic_metadata_from_file(str(l0), 0)
    assert read["OFNAME"] == l0.name
    for keyword, value in header.items():
        if keyword not in ("COMMENT", "HISTORY", ""):
            assert (read[keyword] is None) if isinstance(value, fits.card.Undefined) else read[keyword] == value
    assert read["COMMENT"] == list(header["COMMENT"])
    assert set(read) == set(header)
    name = l0.name
    assert process_index_data(calculate_index({name: read, "other": read}, "metadata"))[name] == read
    okay, failed = translate_or_dump_headers([str(sidecar)], r"\.json$", -1, True, output_mode="verbose", translator_name=OfTheTest.name)
    told = capsys.readouterr().out
    assert (len(okay), failed) == (1, []), told
    assert f"object: {read['TARGNAME']}" in told
    assert "datetime_begin: 2024-04-22T08:00:32.886" in told


def test_the_options_are_in_the_help_of_plan():
    assert {"write", "from_telemetry"} <= {p.name for p in commands_of(command)["plan"].params}
