"""A real NFS, which only `make test-nfs` has: two mounts of one export, like two hosts; a server to stop; a disk to fill."""

import ctypes
import itertools
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import kpf_night
import pytest

HERE = Path(__file__).parent
THREADS = "4"
PATIENCE = 60
NEW_MOUNTS, BIND, PRIVATE = 0x20000, 4096, 16384 | 1 << 18
"""Of unshare(2) and mount(2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mounts:
    """One new directory, as two hosts have it mounted, and as it is on the disk of the server."""

    a: Path
    b: Path
    export: Path

    def names(self) -> list[str]:
        """Return what is in it, as the server knows; a file that was removed while it was open goes a little later."""
        deadline = time.monotonic() + PATIENCE
        while any(name.startswith(".nfs") for _, _, names in os.walk(self.export) for name in names) and time.monotonic() < deadline:
            time.sleep(0.05)
        return sorted(os.listdir(self.export))


class Hosts:
    """Two hosts that have the same directory mounted under the same path, one through each mount.

    Each is a thread with a mount table of its own; the paths of an exposure are in its L0, which so is the same from both.
    """

    def __init__(self, mounts: Mounts, path: Path) -> None:
        self.path = path
        self._sides = (mounts.a, mounts.b)

    def run(self, *works: Callable[[], object]) -> None:
        """Run works side by side, the first on one host, the second on the other, and so on; raise what one of them raised."""
        errors: list[BaseException] = []
        ready = threading.Barrier(len(works))

        def run_one(side: Path, work: Callable[[], object]) -> None:
            try:
                self._mount(side)
                ready.wait(PATIENCE)
                work()
            except BaseException as error:  # noqa: BLE001 - raised below
                ready.abort()
                errors.append(error)

        sides = itertools.cycle(self._sides)
        threads = [threading.Thread(target=run_one, args=(next(sides), work)) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]

    def _mount(self, side: Path) -> None:
        """Give this thread a mount table of its own, with one mount at the path."""
        libc = ctypes.CDLL(None, use_errno=True)
        if (
            libc.unshare(NEW_MOUNTS)
            or libc.mount(None, b"/", None, PRIVATE, None)
            or libc.mount(bytes(side), bytes(self.path), None, BIND, None)
        ):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(self.path))


class Server:
    """The NFS server. While it is away, every call that needs it waits, and cannot be interrupted."""

    def __init__(self, command: str) -> None:
        self._command = command.split()
        self.runs = True

    def stop(self) -> None:
        """Stop it, as when its host goes down; no client is asked."""
        subprocess.run([*self._command, "0"], check=True)
        self.runs = False

    def start(self) -> None:
        """Start it; for up to ten seconds it only lets clients have again what they had."""
        subprocess.run([*self._command, THREADS], check=True)
        self.runs = True


class Disk:
    """The disk of the server."""

    def __init__(self, export: Path) -> None:
        self._export = export
        self._ballast = export / "ballast"

    def fill(self, *, leave: int = 0) -> None:
        """Take all of its room but for some bytes."""
        with self._ballast.open("ab") as file:
            status = os.statvfs(self._export)
            room = status.f_bavail * status.f_frsize - leave
            if room > 0:
                os.posix_fallocate(file.fileno(), file.tell(), room)

    def make_room(self) -> None:
        """Give its room back."""
        self._ballast.unlink(missing_ok=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip where there is no NFS."""
    if "NFS_A" not in os.environ:
        for item in items:
            if HERE in item.path.parents and item.path.name.startswith("test_"):
                item.add_marker(pytest.mark.skip(reason="needs a real NFS: make test-nfs"))


@pytest.fixture
def mounts(request) -> Iterator[Mounts]:
    """Return a directory that no test had before, so that no client remembers anything of it."""
    name = re.sub(r"\W+", "-", request.node.name)
    found = Mounts(**{side: Path(os.environ[f"NFS_{side.upper()}"], name) for side in ("a", "b", "export")})
    found.export.mkdir()
    yield found
    shutil.rmtree(found.export, ignore_errors=True)


@pytest.fixture
def hosts(mounts, tmp_path) -> Hosts:
    """Return two hosts that have the directory of `mounts` under one path."""
    path = tmp_path / "mounted"
    path.mkdir()
    return Hosts(mounts, path)


@pytest.fixture
def server() -> Iterator[Server]:
    """Return the server, which runs before and after."""
    found = Server(os.environ["NFS_SERVER"])
    yield found
    if not found.runs:
        found.start()


@pytest.fixture
def full() -> Iterator[Disk]:
    """Return the disk of the server, to be filled; it has room before and after."""
    found = Disk(Path(os.environ["NFS_EXPORT"]))
    yield found
    found.make_room()


@pytest.fixture
def sub_fits(tmp_path) -> Callable[..., Path]:
    """Return what writes a sub-FITS of one image, which the instrument `one` takes."""

    def write(directory: Path, stem: str = "frame", *, rows: int = 8, value: int = 1) -> Path:
        path = directory / f"{stem}.fits"
        primary = ["SIMPLE  =                    T", "BITPIX  =                    8", "NAXIS   =                    0"]
        times = ["DATE-BEG= '2024-04-22T08:00:32'", "DATE-END= '2024-04-22T08:01:02'"]
        image = kpf_night.image_hdu("CHIP", kpf_night.np.full((rows, 1024), value, dtype=kpf_night.np.uint16))
        with path.open("wb") as stream:
            kpf_night.write_hdu(stream, [*primary, *times])
            kpf_night.write_hdu(stream, image.cards, image.data)
        return path

    return write
