"""Make the exposures that the benchmark measures with: sub-FITS, an instrument YAML, and a keyword history.

Run as a program, ``python exposures.py NAME DIRECTORY [COUNT]``, it makes one exposure, or a night of so many, and prints what it
made as JSON. The benchmark starts it that way so that its own process stays small: a child inherits its parent's peak memory.
"""

import datetime as dt
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

BEGIN, END, ELAPSED = "2024-04-22T08:00:32.890", "2024-04-22T08:01:32.890", 60.0
BEGIN_UNIX = 1713772832.89
FRAME = 215921
SPACING = 70.0
"""From the begin of one exposure of a night to that of the next [s]."""
TELEMETRY = 100
HISTORY_HOURS = 2
HISTORY_STEP = 5.0
BLOCK = 2880

_BASES = ("TMP", "VLT", "CUR", "POS", "SET", "MOT", "PRS", "FLT", "CLK", "SHT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image extension of random integers.

    Attributes
    ----------
    name : str
        EXTNAME.
    shape : tuple of int
        NAXIS1 and NAXIS2.
    bits : int
        Bits of a pixel; unsigned, so stored with BZERO.
    cards : int
        Cards besides those that describe the array.
    """

    name: str
    shape: tuple[int, int]
    bits: int
    cards: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """A binary table extension of random numbers with a time, a name and a spectrum in each row."""

    name: str
    rows: int
    samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """What one origin delivers: the cards of its primary, and its extensions."""

    name: str
    prefix: str
    cards: int
    extensions: tuple[Image | Rows, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """An exposure on the disk.

    Attributes
    ----------
    name : str
    inputs : tuple of str
        Paths of the sub-FITS.
    prefixes : tuple of str
        Of their origins.
    instrument : str
        Path of the YAML.
    history : str
        Path of the keyword history, or the empty string.
    cards : int
        Cards of all headers together, END not counted.
    size : int
        Bytes of all sub-FITS together.
    """

    name: str
    inputs: tuple[str, ...]
    prefixes: tuple[str, ...]
    instrument: str
    history: str
    cards: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """A night on the disk, of exposures that have other times, frame numbers and readings each, and the pixels of one.

    Attributes
    ----------
    name : str
        That of its exposures.
    directory : str
        Where its sub-FITS are.
    exposures : tuple of tuple of str
        Of each exposure, the paths of its sub-FITS.
    instrument, history : str
        Paths.
    cards : int
        Of each exposure.
    size : int
        Bytes of all sub-FITS together.
    """

    name: str
    directory: str
    exposures: tuple[tuple[str, ...], ...]
    instrument: str
    history: str
    cards: int
    size: int


def cameras_of(name: str) -> tuple[Camera, ...]:
    """Return the cameras of an exposure by its name: small, kpf or wide."""
    if name == "small":
        amplifiers = tuple(Image(name=f"AMP{n}", shape=(512, 512), bits=16, cards=25) for n in (1, 2, 3))
        return tuple(Camera(name=f"camera{n}", prefix=f"C{'ABCD'[n]}", cards=270, extensions=amplifiers) for n in range(4))
    if name == "kpf":
        amplifiers = tuple(Image(name=f"AMP{n}", shape=(4110, 2094), bits=32, cards=30) for n in (1, 2))
        guide, meter = Image(name="AVERAGE", shape=(640, 512), bits=16, cards=20), Rows(name="SPECTRA", rows=60, samples=1024)
        return (
            Camera(name="green", prefix="GR", cards=250, extensions=amplifiers),
            Camera(name="red", prefix="RD", cards=250, extensions=amplifiers),
            Camera(name="guide", prefix="GC", cards=150, extensions=(guide,)),
            Camera(name="meter", prefix="EM", cards=100, extensions=(meter,)),
        )
    if name == "wide":
        amplifiers = tuple(Image(name=f"AMP{n:02d}", shape=(4096, 2048), bits=16, cards=30) for n in range(1, 17))
        return tuple(Camera(name=f"mosaic{n}", prefix=f"M{'ABCD'[n]}", cards=100, extensions=amplifiers) for n in range(4))
    raise ValueError(f"there is no exposure {name}")


def make_exposure(name: str, directory: Path, hours: float = HISTORY_HOURS) -> Exposure:
    """Make an exposure in a directory.

    Parameters
    ----------
    name : str
        small, kpf or wide.
    directory : Path
        Made where it is not there.
    hours : float
        How long its history is; it begins half of `HISTORY_HOURS` before the exposure.
    """
    directory.mkdir(parents=True, exist_ok=True)
    cameras = cameras_of(name)
    paths = [directory / f"{camera.name}_{FRAME}.fits" for camera in cameras]
    cards = sum(_write_camera(camera, path) for camera, path in zip(cameras, paths, strict=True))
    told = name != "wide"
    instrument = directory / "instrument.yaml"
    instrument.write_text(_yaml(name, cameras, snapshots=told), encoding="ascii")
    history = directory / "history.db"
    if told:
        from assembler.telemetry.sqlite import load

        load(str(history), _samples(hours))
    return Exposure(
        name=name,
        inputs=tuple(map(str, paths)),
        prefixes=tuple(camera.prefix for camera in cameras),
        instrument=str(instrument),
        history=str(history) if told else "",
        cards=cards,
        size=sum(path.stat().st_size for path in paths),
    )


def make_night(name: str, directory: Path, count: int) -> Night:
    """Make a night in a directory, with a history that goes from before its first exposure to after the last.

    Parameters
    ----------
    name : str
        small or kpf.
    directory : Path
        Made where it is not there.
    count : int
        How many exposures.
    """
    first = make_exposure(name, directory / "night", hours=HISTORY_HOURS + count * SPACING / 3600)
    exposures = [first.inputs]
    size = first.size
    for camera, path in zip(cameras_of(name), first.inputs, strict=True):
        whole = Path(path).read_bytes()
        header = _header(_primary(camera, 0))
        assert whole.startswith(header)
        for number in range(1, count):
            with open(path.replace(str(FRAME), str(FRAME + number)), "wb") as file:
                file.write(_header(_primary(camera, number)))
                file.write(memoryview(whole)[len(header) :])
            size += len(whole)
    exposures += [tuple(path.replace(str(FRAME), str(FRAME + number)) for path in first.inputs) for number in range(1, count)]
    return Night(
        name=name,
        directory=str(directory / "night"),
        exposures=tuple(exposures),
        instrument=first.instrument,
        history=first.history,
        cards=first.cards,
        size=size,
    )


def read_night(text: str) -> Night:
    """Read a night back from the JSON that `main` printed."""
    told = json.loads(text)
    return Night(**{**told, "exposures": tuple(map(tuple, told["exposures"]))})


def read_exposure(text: str) -> Exposure:
    """Read an exposure back from the JSON that `main` printed."""
    told = json.loads(text)
    return Exposure(**{**told, "inputs": tuple(told["inputs"]), "prefixes": tuple(told["prefixes"])})


def _write_camera(camera: Camera, path: Path) -> int:
    """Write a sub-FITS, sync it, and return the number of its cards."""
    import numpy as np

    random = np.random.default_rng(sum(camera.name.encode()))
    primary = _primary(camera, 0)
    count = len(primary)
    with path.open("wb") as file:
        file.write(_header(primary))
        for extension in camera.extensions:
            if isinstance(extension, Image):
                cards = _image_cards(extension)
                width, height = extension.shape
                data = random.integers(0, 256, width * height * extension.bits // 8, dtype=np.uint8)
            else:
                cards, data = _table_cards(extension), _table(extension, random)
            file.write(_header(cards))
            file.write(memoryview(data).cast("B"))
            file.write(bytes(-data.nbytes % BLOCK))
            count += len(cards)
        file.flush()
        os.fsync(file.fileno())
    return count


def _primary(camera: Camera, number: int) -> list[str]:
    """Return the cards of a camera's primary, of the exposure with a number of its night."""
    begin, end = (dt.datetime.fromisoformat(told) + dt.timedelta(seconds=SPACING * number) for told in (BEGIN, END))
    return [
        *(_card("SIMPLE", True), _card("BITPIX", 8), _card("NAXIS", 0), _card("EXTEND", True)),
        _card("DATE-BEG", begin.isoformat(timespec="milliseconds"), "begin of the frame"),
        _card("DATE-END", end.isoformat(timespec="milliseconds"), "end of the frame"),
        _card("ELAPSED", ELAPSED, "[s] open shutter"),
        _card("FRAMENO", FRAME + number, "frame number"),
        _card("TIMESYS", "UTC", "time scale"),
        *_filling(camera.cards - 9, number),
    ]


def _image_cards(image: Image) -> list[str]:
    width, height = image.shape
    return [
        *(_card("XTENSION", "IMAGE", "image extension"), _card("BITPIX", image.bits), _card("NAXIS", 2)),
        *(_card("NAXIS1", width), _card("NAXIS2", height), _card("PCOUNT", 0), _card("GCOUNT", 1)),
        *(_card("BSCALE", 1), _card("BZERO", 1 << image.bits - 1, "unsigned integers"), _card("EXTNAME", image.name)),
        *(_card("DATASEC", f"[5:{width - 6},1:{height}]", "pixels of the sky"), _card("GAIN", 5.175, "[electron/adu]")),
        *_filling(image.cards - 2),
    ]


def _table_cards(table: Rows) -> list[str]:
    columns = (("TIME", "1D"), ("NAME", "8A"), ("FLUX", f"{table.samples}E"))
    described = [_card(f"T{what}{n}", column[k]) for n, column in enumerate(columns, 1) for k, what in enumerate(("TYPE", "FORM"))]
    return [
        *(_card("XTENSION", "BINTABLE", "binary table"), _card("BITPIX", 8), _card("NAXIS", 2)),
        *(_card("NAXIS1", 16 + 4 * table.samples), _card("NAXIS2", table.rows), _card("PCOUNT", 0), _card("GCOUNT", 1)),
        *(_card("TFIELDS", 3), *described, _card("EXTNAME", table.name), *_filling(10)),
    ]


def _table(table: Rows, random: "np.random.Generator") -> "np.ndarray":  # noqa: F821 - numpy is imported where it is used
    import numpy as np

    rows = np.zeros(table.rows, dtype=[("TIME", ">f8"), ("NAME", "S8"), ("FLUX", ">f4", (table.samples,))])
    rows["TIME"] = BEGIN_UNIX + np.arange(table.rows)
    rows["NAME"] = b"sample"
    rows["FLUX"] = random.random((table.rows, table.samples))
    return rows.view(np.uint8)


def _filling(count: int, number: int = 0) -> Iterator[str]:
    """Yield cards such as cameras write: numbers, others in each exposure; text, switches and now and then a comment."""
    for n in range(count):
        keyword = f"{_BASES[n % 10]}{n:03d}"
        kind = n % 5
        if n % 50 == 49:
            yield "COMMENT  the cards that follow belong to one board of the controller".ljust(80)
        elif kind == 0:
            yield _card(keyword, 20 + (n + number) / 16, f"[C] temperature of sensor {n} of the controller")
        elif kind == 1:
            yield _card(keyword, f"state of part {n}", f"what part {n} was doing")
        elif kind == 2:
            yield _card(keyword, n * 17 + number, f"[ms] time of step {n}")
        elif kind == 3:
            yield _card(keyword, n % 2 == 0, f"whether switch {n} was on")
        else:
            yield _card(keyword, -(n + number) * 1.25e-7, f"[Torr] pressure of gauge {n}, as last read before the exposure")


def _card(keyword: str, value: bool | float | str, comment: str = "") -> str:
    if isinstance(value, bool):
        text = f"{'T' if value else 'F':>20}"
    elif isinstance(value, str):
        text = f"'{value:8}'".ljust(20)
    else:
        text = f"{value!r:>20}".upper()
    return f"{keyword:8}= {text}{f' / {comment}' if comment else ''}"[:80].ljust(80)


def _header(cards: list[str]) -> bytes:
    text = "".join((*cards, "END".ljust(80)))
    return text.ljust(-(-len(text) // BLOCK) * BLOCK).encode("ascii")


def _yaml(name: str, cameras: tuple[Camera, ...], *, snapshots: bool) -> str:
    lines = [f"instrument: {name}", "filename: L0.{date}.{seconds}.fits", "origins:"]
    for camera in cameras:
        extensions = ", ".join(f"{camera.name.upper()}_{e.name}: {e.name}" for e in camera.extensions)
        lines += [
            f"  {camera.name}:",
            f"    prefix: {camera.prefix}",
            f"    flag: {camera.name.upper()}",
            f"    file: {camera.prefix}FN",
            f"    files: {camera.name}_{{frame}}.fits",
            "    frame: FRAMENO",
            f"    extensions: {{{extensions}}}",
            "    times: {begin: DATE-BEG, end: DATE-END, elapsed: ELAPSED, unit: s, tolerance: 0.1 s}",
        ]
    if snapshots:
        lines += ["snapshots:", "  begin:", "    offset: 0.1 s", "    keywords:"]
        for n in range(TELEMETRY):
            kind = "str" if n % 4 == 0 else "float"
            lines.append(f'      TEL{n:03d}: {{from: service{n % 5}.TEL{n:03d}, type: {kind}, comment: "telemetry keyword {n}"}}')
    return "\n".join((*lines, ""))


def _samples(hours: float) -> Iterator[tuple[str, float, str]]:
    """Yield the history: every keyword every few seconds, in the hours around the exposure."""
    steps = int(hours * 3600 / HISTORY_STEP)
    begin = BEGIN_UNIX - HISTORY_HOURS * 1800
    for n in range(TELEMETRY):
        for step in range(steps):
            value = ("idle", "busy")[step % 2] if n % 4 == 0 else f"{n + step / 64:.4f}"
            yield f"service{n % 5}.TEL{n:03d}", begin + step * HISTORY_STEP + n / 1000, value


def main() -> None:
    """Make the exposure, or the night, that the command line names."""
    name, directory, *count = sys.argv[1:]
    made = make_night(name, Path(directory), int(count[0])) if count else make_exposure(name, Path(directory))
    print(json.dumps(asdict(made)))


if __name__ == "__main__":
    main()
