"""`assembler init`: what it prints assembles the samples with no edit; what it cannot settle is told."""

import json

import kpf_night
import pytest
from astropy.io import fits

from assembler.cli import run


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Return what runs a command in this process: (exit code, standard output, standard error)."""

    def invoke(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["assembler", *map(str, words)])
        code = run()
        return code, *capsys.readouterr()

    return invoke


def write(path, *primary, name="SCI"):
    path.parent.mkdir(parents=True, exist_ok=True)
    head = [kpf_night.card("SIMPLE", True), kpf_night.card("BITPIX", 8), kpf_night.card("NAXIS", 0)]
    image = ["XTENSION= 'IMAGE   '", kpf_night.card("BITPIX", 8), kpf_night.card("NAXIS", 0)]
    image += [kpf_night.card("PCOUNT", 0), kpf_night.card("GCOUNT", 1), kpf_night.card("EXTNAME", name)]
    with path.open("wb") as stream:
        kpf_night.write_hdu(stream, [*head, *primary])
        kpf_night.write_hdu(stream, image)
    return path


BEGIN = (kpf_night.card("DATE-BEG", "2024-04-22T08:00:00.5"), kpf_night.card("EXPTIME", 10.0))


@pytest.mark.parametrize("amplifiers", [2, 4])
def test_what_it_prints_passes_lint_and_assembles_the_samples(call, tmp_path, amplifiers):
    night = kpf_night.make_night(tmp_path, amplifiers=amplifiers)
    samples = sorted(night.sub_fits(night.frames[0]).values())
    code, text, told = call("init", *samples)
    assert code == 0
    assert told.startswith("5 origins, ")
    yaml = tmp_path / "my.yaml"
    yaml.write_text(text)
    assert call("plan", "--lint", "-i", yaml)[0] == 0
    assert call("plan", "--lint", "-i", yaml, *samples)[0] == 0
    code, path, _ = call("assemble", "-i", yaml, "--out", tmp_path / "out", *samples)
    assert code == 0
    assert call("verify", path.strip())[0] == 0
    assert call("assemble", "-i", yaml, "--out", tmp_path / "again", night.directory, "--frame", night.frames[0])[0] == 0


@pytest.mark.parametrize("counting", [True, False])
def test_what_it_prints_makes_the_next_exposures_of_the_night_too_each_under_a_name_of_its_own(call, tmp_path, counting):
    night = tmp_path / "night"
    for index in range(3):
        began = kpf_night.card("DATE-BEG", f"2024-04-22T08:0{index}:00.5")
        told = [kpf_night.card("FRAMENO", index + 1)] if counting else []
        write(night / "Blue" / f"blue1_{index + 1:04}.fits", began, BEGIN[1], *told, name="B")
        write(night / "Guide" / f"guide_{index + 58}.fits", began, BEGIN[1], name="G")
    code, text, _ = call("init", night / "Blue" / "blue1_0001.fits", night / "Guide" / "guide_58.fits")
    assert code == 0
    yaml = tmp_path / "my.yaml"
    yaml.write_text(text)
    code, made, _ = call("night", "-i", yaml, night, "--jobs", 1)
    assert code == 0
    assert len(set(made.split())) == 3
    for path in made.split():
        assert {fits.getval(path, flag) for flag in ("BLUE", "GUIDE")} == {"YES"}
    code, again, told = call("night", "-i", yaml, night, "--jobs", 1)
    assert (code, again) == (0, made)
    assert "3 exposures: 3 same" in told


@pytest.mark.parametrize("name", ["one.fits", "0001.fits"])
def test_the_l0s_of_a_night_are_not_taken_for_its_sub_fits(call, tmp_path, name):
    night = tmp_path / "night"
    sample = write(night / name, *BEGIN)
    (tmp_path / "my.yaml").write_text(call("init", sample)[1])
    made = call("night", "-i", tmp_path / "my.yaml", night, "--jobs", 1)
    assert made[0] == 0
    assert len(made[1].split()) == 1
    assert call("night", "-i", tmp_path / "my.yaml", night, "--jobs", 1)[:2] == made[:2]


def test_an_origin_is_called_as_it_is_told(call, tmp_path):
    sample = write(tmp_path / "x.fits", *BEGIN)
    code, text, _ = call("init", f"Blue={sample}")
    assert code == 0
    assert "\n  Blue:\n    prefix: BL\n" in text


def test_a_broken_sample_is_refused_in_one_line(call, tmp_path):
    (tmp_path / "x.fits").write_bytes(b"no FITS")
    code, text, told = call("init", tmp_path / "x.fits")
    assert (code, text, told.count("\n")) == (3, "", 1)


def test_a_name_that_no_yaml_can_hold_is_refused_in_one_line(call, tmp_path):
    sample = write(tmp_path / "x.fits", *BEGIN)
    odd = sample.rename(tmp_path / "x\udcff.fits")
    code, text, told = call("init", odd)
    assert (code, text, told.count("\n")) == (3, "", 1)


def test_one_sample_twice_is_refused(call, tmp_path):
    sample = write(tmp_path / "x.fits", *BEGIN)
    code, text, told = call("init", sample, sample)
    assert (code, text) == (2, "")
    assert "is given 2 times" in told


def test_a_sample_of_another_exposure_is_told(call, tmp_path):
    one = write(tmp_path / "one_a.fits", *BEGIN, name="A")
    other = write(tmp_path / "two_b.fits", kpf_night.card("DATE-BEG", "2024-04-23T09:10:11.5"), kpf_night.card("EXPTIME", 10.0), name="B")
    code, text, told = call("init", one, other)
    assert code == 1
    assert "other-exposure" in told
    assert text.startswith("# A first draft")


def test_what_no_yaml_can_settle_is_told_and_the_yaml_is_written_all_the_same(call, tmp_path):
    sample = write(tmp_path / "x.fits", *BEGIN, kpf_night.card("LAMP", 1), kpf_night.card("LAMP", 2))
    code, text, told = call("init", sample)
    assert code == 1
    assert "duplicate-keyword" in told
    (tmp_path / "my.yaml").write_text(text)
    assert call("assemble", "-i", tmp_path / "my.yaml", "--out", tmp_path, sample)[0] == 0


def test_for_programs_it_is_json_with_the_same_text(call, tmp_path):
    sample = write(tmp_path / "x.fits", *BEGIN, kpf_night.card("LAMP", 1), kpf_night.card("LAMP", 2))
    plain = call("init", f"blue={sample}")
    code, out, _ = call("init", "--json", f"blue={sample}")
    told = json.loads(out)
    assert (code, told["yaml"]) == plain[:2]
    assert told["samples"] == {"blue": "x.fits"}
    assert [f["code"] for f in told["findings"]] == ["duplicate-keyword"]
