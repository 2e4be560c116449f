"""What many tests need: the shipped instrument, and a small night of it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import kpf_night
import pytest
from hypothesis import settings

from assembler.cli import run
from assembler.config import load_instrument
from assembler.core.instrument import Instrument
from assembler.instruments import read_instrument
from assembler.service.finder import Found, find_night
from assembler.service.pipeline import Outcome, assemble
from assembler.service.replay import open_history
from assembler.telemetry import sqlite
from assembler.telemetry.history import History
from assembler.telemetry.load import read_samples

ROOT = Path(__file__).parent.parent
WRITTEN = 1_790_000_000 * 10**9
"""An instant [ns] for DATE, so that L0s of the tests are the same every time."""

os.environ.pop("PYTHONUNBUFFERED", None)  # users have no such setting, and it hides what is left in a buffer at the end

settings.register_profile("default", deadline=None)
settings.register_profile("long", deadline=None, max_examples=3000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

ONE = """
instrument: one
filename: "{stem}.l0.fits"
origins:
  cam: {prefix: CM, flag: CAM, file: CAMFN, files: "*", times: {begin: DATE-BEG, end: DATE-END}}
"""
"""An instrument of one camera, whatever its file is called."""


def pytest_addoption(parser):
    parser.addoption("--renew-golden", action="store_true", help="write the golden files anew, for review")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory) -> Iterator[Path]:
    """Keep what tests remember away from the user's cache."""
    directory = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(directory))
        yield directory


@pytest.fixture(scope="session")
def kpf(cache) -> Instrument:
    return load_instrument(ROOT / "prefixes.yaml")


@pytest.fixture(scope="session")
def one() -> Instrument:
    return read_instrument(ONE, "one.yaml")


@pytest.fixture
def night(tmp_path) -> kpf_night.Night:
    return kpf_night.make_night(tmp_path / "data")


@pytest.fixture
def history_url(night, tmp_path) -> str:
    """Return the URL of a history with the night's telemetry."""
    path = tmp_path / "history.db"
    sqlite.load(str(path), read_samples(night.telemetry))
    return f"sqlite:///{path}"


@pytest.fixture
def found(kpf, night) -> Found:
    return find_night(kpf, night.directory, night.frames[0])


@pytest.fixture
def make(tmp_path) -> Callable[..., Outcome]:
    """Return what assembles: an exposure, with or without a history, into the directory out."""

    def assemble_one(
        found: Found,
        url: History | str | None = None,
        out: Path | None = None,
        written: int = WRITTEN,
        supersede: str | None = None,
        former: Path | None = None,
    ) -> Outcome:
        history = open_history(url) if isinstance(url, str) else url
        try:
            return assemble(
                found, history, out or tmp_path / "out", version="test", clock=lambda: written, supersede=supersede, former=former
            )
        finally:
            if history:
                history.close()

    return assemble_one


@pytest.fixture
def call(monkeypatch, capsys):
    """Return what runs a command in this process: (exit code, standard output, standard error)."""
    monkeypatch.chdir(ROOT)

    def invoke(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["assembler", *map(str, words)])
        code = run()
        return code, *capsys.readouterr()

    return invoke


@pytest.fixture
def l0(call, night, history_url) -> Path:
    code, out, _ = call("assemble", night.directory, "--frame", night.frames[0], "--history", history_url)
    assert code == 0
    return Path(out.strip())


@pytest.fixture(scope="session")
def fitsverify() -> Callable[[Path], None]:
    """Return what runs the FITS community's verifier, where it is installed (CI installs it)."""
    program = shutil.which("fitsverify")

    def verify(path: Path) -> None:
        if program:
            told = subprocess.run([program, "-q", "-e", str(path)], capture_output=True, text=True, check=False).stdout
            assert told.startswith("verification OK"), told

    return verify
