"""`assembler archive`: what it prints, as lines and as JSON, its receipts, its exit codes, and how it is stopped."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import stores

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "tests" / "golden" / "archive.txt"
STRICT = """
archive: strict
place: "{year}/{month}/{day}/v{version}/{name}"
primary:
  IMTYPE: {type: text, values: [Nothing]}
  L0VER: {type: integer, max: 0}
  TELESCOP: {type: text, width: 3}
warn: [width TELESCOP]
"""
LENIENT = STRICT.replace("warn: [", "warn: [values IMTYPE, range L0VER, ")


@pytest.fixture
def l0s(tmp_path, kpf):
    return stores.make_l0s(tmp_path, kpf)


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "archive"
    path.mkdir()
    return path


def masked(text, tmp_path):
    """Return text without what is another one each time, or with each version of the assembler or the YAML."""
    text = re.sub(r"[0-9a-f]{64}", "<SHA-256>", text.replace(str(tmp_path), ""))
    text = re.sub(r'("archived": )"[^"]*"', r'\1"<time>"', text)
    text = re.sub(r'("archiver": )"[^"]*"', r'\1"<version>"', text)
    return re.sub(r'("size": )\d+', r"\1<bytes>", text)


def test_what_it_prints_is_as_it_was_reviewed(call, l0s, archive, tmp_path, request):
    told = []

    def show(*words, code):
        result, out, err = call("archive", *words)
        assert result == code, err
        shown = ["assembler", "archive", *words]
        told.append(f"$ {' '.join(map(str, shown))}  # exit code {code}\n{out}{err}")

    name = archive / "20240422" / l0s[2].name
    name.parent.mkdir()
    name.write_bytes(b"another")
    for rules, text in (("mine", "archive: mine"), ("strict", STRICT), ("lenient", LENIENT)):
        (tmp_path / f"{rules}.yaml").write_text(text)
    mine = ("--rules", tmp_path / "mine.yaml")
    other = tmp_path / "other"
    other.mkdir()
    (other / "20240422").write_bytes(b"")
    show(l0s[0], l0s[1], "--to", archive, *mine, code=0)
    show(*l0s, tmp_path / "nothing.fits", "--to", archive, *mine, code=3)
    show(l0s[0], "--to", other, *mine, code=4)
    show(l0s[0], "--to", archive, "--rules", tmp_path / "strict.yaml", code=1)
    show(l0s[0], "--to", archive, "--rules", tmp_path / "lenient.yaml", code=0)
    show(l0s[0], l0s[1], "--check", *mine, code=0)
    show(*l0s[1:], "--to", archive, *mine, "--json", code=1)
    show(l0s[0], "--check", "--rules", tmp_path / "strict.yaml", "--json", code=1)
    receipt = archive / "2024" / "04" / "22" / "v1" / f"{l0s[0].name}.receipt.json"
    text = json.loads(receipt.read_text())
    text["findings"] = text["findings"][:2]
    told.append(f"# {receipt.name}, with two of its findings\n{json.dumps(text, indent=1)}\n")
    found = masked("\n".join(told), tmp_path)
    if request.config.getoption("--renew-golden"):
        GOLDEN.write_text(found)
    assert found == GOLDEN.read_text()


def test_each_l0_of_an_archive_of_rules_is_judged_by_those_beside_its_yaml(call, l0s, archive, tmp_path):
    """Beside a YAML without rules, only structure and checksums are checked, and that is said."""
    bare = tmp_path / "bare" / "prefixes.yaml"
    bare.parent.mkdir()
    shutil.copy(ROOT / "prefixes.yaml", bare)
    code, _, err = call("archive", l0s[0], "--check", "-i", bare)
    assert (code, err) == (0, "there is no archive.yaml beside the instrument's YAML, so only structure and checksums are checked\n")
    (bare.parent / "archive.yaml").write_text(STRICT)
    code, out, err = call("archive", l0s[0], "--to", archive, "-i", bare)
    assert code == 1
    assert out.splitlines()[1:] == [
        "  values IMTYPE: " + out.splitlines()[1].partition(": ")[2],
        "  range L0VER: L0VER is 1, expected at most 0",
    ]
    assert list(archive.iterdir()) == []
    (bare.parent / "archive.yaml").write_text(STRICT + "instrument: HIRES\n")
    code, _, err = call("archive", l0s[0], "--check", "-i", bare)
    assert (code, err) == (0, f"{bare.parent}/archive.yaml is for HIRES, not KPF, so only structure and checksums are checked\n")
    assert call("archive", l0s[0], "--check", "-i", bare, "--rules", bare.parent / "archive.yaml")[0] == 1


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--to", "x", "--check"),
        ("--check", "--compress"),
        ("--to", "ftp://host/x"),
        ("--check", "--template", "{date}"),
        ("--check", "--template", "../{name}"),
        ("--check", "--template", "/{name}"),
        ("--check", "--template", "{OBJECT}/{name}"),
        ("--check", "--rules", "nothing.yaml"),
    ],
)
def test_what_cannot_be_meant_is_told_in_one_line(call, words):
    code, out, err = call("archive", "a.fits", *words)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_an_l0_that_names_a_place_outside_is_refused(call, l0s, archive, tmp_path):
    """OFNAME may say what it likes: it is the name of the file, or the L0 is no whole one; and the name has to be one for an archive."""
    data = l0s[0].read_bytes()
    evil = tmp_path / "evil" / l0s[0].name
    evil.parent.mkdir()
    at = data.index(b"OFNAME  = ")
    card = b"OFNAME  = '../../outside.fits'".ljust(80)
    evil.write_bytes(data[:at] + card + data[at + 80 :])
    link = tmp_path / "evil" / "..fits"
    link.symlink_to(l0s[0])
    code, out, _ = call("archive", evil, link, "--to", archive, "--json")
    assert code == 1
    assert [(r["state"], r["kind"]) for r in json.loads(out)] == [("refused", "verification")] * 2
    assert list(archive.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_nothing_half(l0s, archive, number, tmp_path):
    """Stops it right after the first of many L0s."""
    program = [sys.executable, "-m", "assembler", "archive", *map(str, l0s * 200), "--to", str(archive)]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert ": accepted: " in process.stdout.readline()
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "Traceback" not in told
    files = stores.in_directory(archive, "", {}).files()
    assert not [name for name in files if os.path.basename(name).startswith(".")]
    program = [sys.executable, "-m", "assembler", "archive", *map(str, l0s), "--to", str(archive)]
    assert subprocess.run(program, capture_output=True, check=False, cwd=ROOT).returncode == 0
    stores.check_folder(stores.in_directory(archive, "", {}).files(), "20240422", [p.name for p in l0s], tmp_path)
