"""The commands as a person and a script use them: what they print, where, and their exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from astropy.io import fits
from commands import commands_of

from assembler import __version__
from assembler.cli import command
from assembler.core.plan import from_json

ROOT = Path(__file__).parent.parent


def test_assemble_prints_the_path_and_nothing_else_on_standard_output(l0, night):
    assert l0 == night.directory / "L0" / "KP.20240422.28832.89.fits"
    with fits.open(l0) as hdus:
        assert hdus[0].header["OFNAME"] == l0.name
        assert hdus[0].header["FAVER"] == __version__


def test_the_real_times_come_from_the_exposure_service(l0, call):
    with fits.open(l0) as hdus:
        header = hdus[0].header
        assert header["DATE-BEG"] == "2024-04-22T08:00:32.886179"
        assert header["STARTIME"] == "2024-04-22T08:00:32.886"
        assert header.comments["DATE-BEG"] == "begin, from exposure service"


def test_assemble_again_is_done_at_once(l0, call, night, history_url):
    code, out, told = call("assemble", night.directory, "--frame", night.frames[0], "--history", history_url)
    assert (code, Path(out.strip())) == (0, l0)
    assert "it was there already" in told


def test_supersede_makes_the_next_version_and_tells_where_the_old_one_is(l0, call, night):
    words = ("assemble", night.directory, "--frame", night.frames[0])
    code, _, told = call(*words)
    assert code == 4
    assert "is not what would be made now" in told
    kept = l0.parent / "superseded" / "KP.20240422.28832.89.v1.fits"
    code, out, told = call(*words, "--supersede", "made without telemetry")
    assert (code, Path(out.strip())) == (0, l0)
    assert f"it is version 2; version 1 is {kept}" in told
    code, out, _ = call(*words, "--supersede", "again", "--json")
    result = json.loads(out)
    assert (code, result["made"], result["version"], result["replaced"]) == (0, False, 2, None)
    assert call("verify", l0, kept)[0] == 0
    assert "from       the assembler itself" in call("explain", kept, "L0VER")[1]
    assert call(*words, "--supersede", " ")[0] == 2


def test_findings_of_severity_error_exit_1_and_go_to_standard_error(call, night, history_url):
    night.sub_fits(night.frames[0])["red"].unlink()
    code, out, told = call("assemble", night.directory, "--frame", night.frames[0], "--history", history_url)
    assert code == 1
    assert Path(out.strip()).is_file()
    assert "ERROR   absent-though-triggered (red)" in told


def test_given_files_and_json(call, night, tmp_path):
    paths = night.sub_fits(night.frames[0]).values()
    code, out, _ = call("assemble", "--json", "--out", tmp_path / "here", *paths)
    told = json.loads(out)
    assert (code, told["made"]) == (0, True)
    assert Path(told["path"]).parent == tmp_path / "here"
    assert {"code", "severity", "origin", "keyword", "message"} == set(told["findings"][0])


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["assemble"], 2, "name the sub-FITS"),
        (["assemble", "--frame", "x", "."], 2, "--frame"),
        (["assemble", "a", "b", "--frame", "1"], 2, "one night's directory"),
        (["assemble", "tests"], 2, "which frame?"),
        (["assemble", "nobody.fits"], 2, "fits the pattern of no origin"),
        (["assemble", "tests", "--frame", "1"], 3, "no sub-FITS to assemble"),
        (["assemble", "nowhere", "--frame", "1"], 3, "no such directory"),
        (["assemble", "green=/nowhere.fits"], 3, "there is no such file"),
        (["assemble", "tests", "--frame", "1", "--history", "sqlite:///nowhere.db"], 5, "there is no history"),
        (["assemble", "tests", "--frame", "1", "--history", "mongodb://x"], 2, "expected sqlite:///PATH"),
        (["assemble", "tests", "--frame", "1", "--history", "postgresql://u:p@host:x/db"], 2, "expected postgresql://USER"),
        (["assemble", "tests", "--frame", "1", "-i", "nowhere.yaml"], 2, "nowhere.yaml: cannot be read"),
        (["plan", "--lint", "-i", "pyproject.toml"], 2, "pyproject.toml:"),
        (["verify", "Makefile"], 1, ""),
        (["verify", "nowhere.fits"], 3, ""),
        (["explain", "Makefile", " "], 2, "name a keyword"),
        (["explain", "Makefile", "DATE"], 3, "no FITS file"),
        (["telemetry", "load", "Makefile", "--history", "sqlite:////nowhere/x.db"], 5, "no directory"),
        (["telemetry", "load", "Makefile", "--history", "postgresql://u:p@127.0.0.1:1/db"], 5, "PostgreSQL at 127.0.0.1:1/db: "),
        (["frobnicate"], 2, "No such command"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line_and_its_exit_code(call, words, code, told):
    given_code, out, err = call(*words)
    assert (given_code, told in err) == (code, True), err
    assert "Traceback" not in err
    assert out == "" or words[0] == "verify"


def test_the_output_directory_that_is_a_file_exits_4(call, night, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, told = call("assemble", night.directory, "--frame", night.frames[0], "--out", tmp_path / "file")
    assert code == 4
    assert "file: cannot" in told


def test_plan_prints_primary_hdus_fates_and_findings_and_writes_nothing(call, night, history_url):
    code, out, _ = call("plan", night.directory, "--frame", night.frames[0], "--history", history_url)
    assert code == 0
    for expected in (
        "# KP.20240422.28832.89.fits",
        "RDTM_ZO = 'GMT     '           / time zone Kwd red TM_ZONE",
        "GREEN_AMP1",
        "prefixed   PRIMARY RDTM_ZO",
        "amplifier  GREEN_AMP1 GAIN02",
        "warning duration-differs (green EXPTIME)",
    ):
        assert expected in out
    assert not (night.directory / "L0").exists()


def test_plan_as_json_is_the_plan(call, night, history_url):
    _, out, _ = call("plan", "--json", night.directory, "--frame", night.frames[0], "--history", history_url)
    assert from_json(out).filename == "KP.20240422.28832.89.fits"


def test_lint_checks_the_yaml_alone_and_against_samples(call, night, tmp_path):
    assert call("plan", "--lint")[:2] == (0, "KPF: 5 origins, 215 telemetry cards, 123 keywords of the table: fine\n")
    paths = [p for n, p in night.sub_fits(night.frames[0]).items() if n in ("green", "red")]
    assert call("plan", "--lint", *paths)[0] == 0
    yaml = tmp_path / "less.yaml"
    yaml.write_text((ROOT / "prefixes.yaml").read_text().replace("      ACFMD5: RDACFSUM", "      OTHER: RDACFSUM"))
    code, out, _ = call("plan", "--lint", "-i", yaml, *paths)
    assert code == 1
    assert out.startswith("warning name-collision (red ")
    code, out, _ = call("plan", "--lint", "--json", "-i", yaml, *paths)
    assert (code, json.loads(out)[0]["code"]) == (1, "name-collision")
    assert call("plan", "--lint", "--json")[:2] == (0, "[]\n")


def test_verify_says_which_file_is_wrong(call, l0, tmp_path):
    bad = tmp_path / l0.name
    bad.write_bytes(l0.read_bytes()[:-2880])
    code, out, _ = call("verify", l0, bad)
    assert code == 1
    assert f"{l0}: verified\n" in out
    assert f"{bad}: FAILED" in out
    code, out, _ = call("verify", "--json", l0)
    assert (code, json.loads(out)[0]["verified"]) == (0, True)


@pytest.mark.parametrize(
    ("keyword", "told"),
    [
        (
            "RDTM_ZO",
            [
                "kpf_215921.fits, HDU 0, card ",
                "of red",
                "TM_ZONE = 'GMT     '           / time zone",
                "prefixed with RD, its last two characters cut off",
            ],
        ),
        ("GRACFSUM", ["ACFMD5  =", "renamed by the YAML"]),
        ("GRELAPS", ["ELAPSED =", "prefixed with GR, its last two characters cut off"]),
        ("RDTEST", ["rule       prefixed with RD\n"]),
        ("tm_zone", ["RDTM_ZO in PRIMARY", "GRTM_ZO in PRIMARY"]),
        ("GAIN02", ["GAIN02 in GREEN_AMP1", "GAIN02 in RED_AMP1", "moved to the extension of its amplifier"]),
        ("TARGNAME", ["history keyword kpfconfig.TARGNAME", "begin, asked as of 2024-04-22T08:00:32.986179 UTC", " s before", "T001823"]),
        ("STARTIME", ["history keyword kpfexpose.STARTTIME", "middle     2024-04-22T08:00:32.886179", "samples    1 from begin"]),
        ("EXPTIME", ["EXPTIME =                 30.0 / Requested exposure time"]),
        ("HEART12", ["history keyword kpfmon.heart_12", "not available"]),
        ("DATE-BEG", ["the assembler itself", "from exposure service"]),
        ("BITPIX", ["describes the file that it was in"]),
        ("TEMPDET", ["TEMPDET in CA_HK", "kept as it was", "GCTEMPD in PRIMARY"]),
    ],
)
def test_explain_tells_where_a_card_came_from(call, l0, keyword, told):
    code, out, _ = call("explain", l0, keyword)
    assert code == 0
    assert [t for t in told if t not in out] == []
    code, out, _ = call("explain", "--json", l0, keyword)
    assert json.loads(out)[0]["facts"]


def test_explain_of_nothing_exits_3(call, l0):
    code, _, told = call("explain", l0, "NOSUCH")
    assert code == 3
    assert "no card NOSUCH" in told


def test_telemetry_load_says_how_much(call, night, tmp_path):
    code, out, _ = call("telemetry", "load", night.telemetry, "--history", f"sqlite:///{tmp_path / 'h.db'}")
    assert code == 0
    assert out.endswith(" samples\n")


def test_telemetry_load_reads_json_lines_by_their_suffix(call, tmp_path):
    path = tmp_path / "night.jsonl"
    path.write_text('{"service": "met", "keyword": "TEMP", "time": 1, "value": 20}\n')
    assert call("telemetry", "load", path, "--history", f"sqlite:///{tmp_path / 'h.db'}")[:2] == (0, f"{path}: 1 samples\n")
    path.write_text("met,TEMP,1,20\n")
    code, _, told = call("telemetry", "load", path, "--history", f"sqlite:///{tmp_path / 'h.db'}")
    assert (code, "night.jsonl:1: is no JSON" in told) == (2, True)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["assemble"],
        ["plan"],
        ["verify"],
        ["explain"],
        ["simulate"],
        ["status"],
        ["watch"],
        ["night"],
        ["init"],
        ["telemetry"],
        ["telemetry", "load"],
    ],
)
def test_every_command_has_help_with_an_example(call, words):
    code, out, _ = call(*words, "--help")
    assert code == 0
    if words and words != ["telemetry"]:
        assert f"assembler {' '.join(words)} " in out.split("Usage:")[1].partition("\n")[2]


def test_every_command_that_has_a_result_has_json():
    def leaves(group):
        return [leaf for c in commands_of(group).values() for leaf in (leaves(c) if hasattr(c, "commands") else [c])]

    assert all("--json" in [o for p in c.params for o in p.opts] for c in leaves(command))


def test_a_reader_that_goes_away_is_no_matter(night):
    program = [sys.executable, "-m", "assembler", "plan", str(night.directory), "--frame", str(night.frames[0])]
    reader = subprocess.Popen(["head", "-1"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    writer = subprocess.run(program, stdout=reader.stdin, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False)
    reader.communicate()
    assert "Traceback" not in writer.stderr
    assert writer.returncode in (0, 1)


class TestCorrections:
    """Where they are, what is printed of them, and what is wrong with them."""

    @pytest.fixture
    def directory(self, tmp_path) -> Path:
        directory = tmp_path / "wrong"
        directory.mkdir()
        (directory / "kpf.yaml").write_text(
            "corrections:\n  - {reason: never set, frames: 215921, origin: green, keyword: EXPTIME, was: 0, value: 30.068}\n"
            "  - {reason: typed in wrong, frames: 215921, history: kpfconfig.TARGNAME, value: '10700'}\n"
        )
        return directory

    def test_an_l0_with_corrections_verifies_and_explains_them(self, call, night, history_url, directory, fitsverify):
        code, out, _ = call("assemble", night.directory, "--frame", "215921", "--history", history_url, "--corrections", directory)
        assert code == 0
        l0 = Path(out.strip())
        fitsverify(l0)
        assert call("verify", l0)[0] == 0
        with fits.open(l0) as hdus:
            assert (hdus[0].header["GREXPTI"], hdus[0].header["TARGNAME"]) == (30.068, "10700")
        told = call("explain", l0, "GREXPTI")[1]
        assert "card       EXPTIME =                    0 / exposure time in msec\n" in told
        assert "corrected  0 is now 30.068 (kpf.yaml: never set)\n" in told
        told = call("explain", l0, "TARGNAME")[1]
        assert "value      T001823\n" in told
        assert "corrected  kpfconfig.TARGNAME: 'T001823' is now '10700' (kpf.yaml: typed in wrong)\n" in told

    def test_those_beside_the_yaml_are_taken_unless_others_are_named(self, call, night, directory, tmp_path):
        yaml = tmp_path / "prefixes.yaml"
        yaml.write_text((ROOT / "prefixes.yaml").read_text())
        directory.rename(tmp_path / "corrections")
        words = ("plan", night.directory, "--frame", "215921", "-i", yaml)
        out = call(*words)[1]
        assert "HISTORY Corrected green HDU 0 EXPTIME: 0 is now 30.068 (kpf.yaml: never set)" in out
        assert "prefixed   PRIMARY GREXPTI, corrected to 30.068\n" in out
        (tmp_path / "none").mkdir()
        assert "HISTORY Corrected" not in call(*words, "--corrections", tmp_path / "none")[1]

    def test_lint_checks_them_alone_and_against_samples(self, call, night, directory):
        (directory / "other.yaml").write_text("corrections:\n  - {reason: r, frames: 215921, origin: green, keyword: NOSUCH, value: 1}\n")
        paths = [p for n, p in night.sub_fits(215921).items() if n in ("green", "red")]
        assert call("plan", "--lint", "--corrections", directory)[0] == 0
        code, out, _ = call("plan", "--lint", "--corrections", directory, *paths)
        assert code == 1
        assert out.startswith("warning correction-unused (green NOSUCH): green HDU 0 NOSUCH: ")
        (directory / "other.yaml").write_text("corrections:\n  - {reason: r, frames: 1, origin: blue, keyword: A, value: 1}\n")
        code, _, told = call("plan", "--lint", "--corrections", directory)
        assert (code, "other.yaml:2: corrections[0].origin: expected an origin" in told) == (2, True)

    def test_a_directory_that_is_not_there_is_a_usage_error(self, call, night):
        code, _, told = call("assemble", night.directory, "--frame", "215921", "--corrections", "nowhere")
        assert (code, told) == (2, "assembler: nowhere: there is no such directory of corrections\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_standard_output_that_is_full_is_one_line():
    with Path("/dev/full").open("w") as full:
        words = [sys.executable, "-m", "assembler", "plan", "--lint", "--json"]
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (4, "assembler: [Errno 28] No space left on device\n")
