"""Run a command on a real NFSv4.2: a server and two clients of it, in a kernel of their own.

    rig.py [--or-pass] [--limit SECONDS] COMMAND [ARG ...]

Boots User-Mode Linux, a kernel that is an ordinary process, on the file system of the host, which it can only read. There the
command finds two mounts of one export, ``$NFS_A`` and ``$NFS_B``, which know nothing of each other, like those of two hosts;
the server's own side of it, ``$NFS_EXPORT``, 256 MB of memory; and ``$NFS_SERVER``, which with 0 after it stops the server,
and with 4 starts it. ``$TMPDIR`` and ``$HOME`` are memory.

It exits with the status of the command; with 97 when that took too long, and with 98 (or 0, with ``--or-pass``) when it never
began, because this host cannot do any of it. ``$RIG_MEMORY`` is the memory of the guest.
"""

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

HERE = Path(__file__).resolve().parent
KERNEL = "linux.uml"
NEEDED = {KERNEL: "user-mode-linux", "exportfs": "nfs-kernel-server", "mount.nfs4": "nfs-common", "modprobe": "kmod", "ip": "iproute2"}
PLACES = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin")

TOO_LONG = 97
UNABLE = 98

ATTEMPTS = 2
BOOTING = 120
"""How long a boot may take until the mounts are there [s]; usually it is ten."""
ENDING = 5
"""How long the guest may take to switch itself off [s]."""
ROOM = 1 << 30
"""What the guest's memory may come to on the host [bytes]."""
LAST_WORDS = ("sysrq: ", "reboot: ")
"""What the kernel says when it is switched off."""


class UnableError(Exception):
    """Why there is no NFS to be had on this host."""


class Guest:
    """A kernel that is being run, in a room of its own on the host."""

    def __init__(self, room: Path, command: list[str]) -> None:
        self.host = room / "host"
        for name in ("memory", "host", "uml"):
            (room / name).mkdir()
        (self.host / "command").write_text(shlex.join(command) + "\n")
        (self.host / "directory").write_text(os.getcwd())
        shutil.copy(HERE / "guest.sh", room / "init").chmod(0o755)
        arguments = ["root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", f"init={room / 'init'}", f"RIG_ROOM={room}"]
        console = ["con=null", "con0=null,fd:1", "quiet", "loglevel=1"]
        if not sys.stdout.isatty():
            arguments.append("NO_COLOR=1")  # what the kernel does not know is in the environment of its first process
        machine = [f"mem={os.environ.get('RIG_MEMORY', '1500M')}", f"uml_dir={room / 'uml'}", "umid=rig"]
        environment = {"PATH": os.defpath, "TMPDIR": memory_place(), **preload(room)}
        self.process = subprocess.Popen(
            [KERNEL, *machine, *arguments, *console],
            executable=shutil.which(KERNEL, path=search_path()),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.said: list[str] = []
        assert self.process.stdout
        self.reader = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self.reader.start()

    def has(self, name: str) -> bool:
        """Tell whether the guest made a file."""
        return (self.host / name).exists()

    def wait_for(self, name: str, seconds: float) -> bool:
        """Wait until the guest made a file; return whether it did."""
        deadline = time.monotonic() + seconds
        while not self.has(name):
            if self.process.poll() is not None or time.monotonic() > deadline:
                return self.has(name)
            time.sleep(0.1)
        return True

    def status(self) -> int | None:
        """Return the status of the command, or None when it did not end."""
        told = (self.host / "status").read_text() if self.has("status") else ""
        return int(told) if told.strip() else None

    def why(self) -> str:
        """Tell in one line why the guest did not get ready."""
        told = (self.host / "told").read_text(errors="replace").splitlines() if self.has("told") else []
        failed = [line for line in told if not line.startswith("+")] or told
        panic = [line for line in self.said if "panic" in line.lower()]
        return (panic or failed[-1:] or self.said[-1:] or ["it said nothing"])[0].strip()

    def stop(self) -> None:
        """End it, and every process that it made."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.reader.join(ENDING)

    def _read(self, console: IO[bytes]) -> None:
        """Pass on what the command prints; what came before it is kept."""
        for line in console:
            text = line.decode(errors="replace").replace("\r", "")
            if self.has("end") and text.startswith(LAST_WORDS):
                continue
            if self.has("ready"):
                sys.stdout.write(text)
                sys.stdout.flush()
            else:
                self.said.append(text)


def run(command: list[str], limit: float) -> int:
    """Boot, run a command, and return its status.

    Raises
    ------
    UnableError
        When it could not even begin.
    """
    for name, package in NEEDED.items():
        if not shutil.which(name, path=search_path()):
            raise UnableError(f"there is no {name} (Debian's package {package})")
    for attempt in range(1, ATTEMPTS + 1):
        with tempfile.TemporaryDirectory(prefix="nfs-rig-", dir="/var/tmp", ignore_cleanup_errors=True) as directory:
            guest = Guest(Path(directory), command)
            try:
                if guest.wait_for("ready", BOOTING):
                    return finish(guest, limit)
                why = guest.why()
            finally:
                guest.stop()
        print(f"nfs rig: boot {attempt} of {ATTEMPTS} failed: {why}", file=sys.stderr, flush=True)
    raise UnableError(why)


def finish(guest: Guest, limit: float) -> int:
    """Wait for the command, and let the guest switch itself off, so that all of its last words are there."""
    begin = time.monotonic()
    guest.wait_for("end", limit)
    status = guest.status()
    if status is not None:
        with suppress(subprocess.TimeoutExpired):
            guest.process.wait(ENDING)
        return status
    passed = time.monotonic() - begin
    told = f"took more than {limit:g} s" if passed >= limit else f"was lost with its guest after {passed:.0f} s"
    print(f"nfs rig: the command {told}", file=sys.stderr)
    return TOO_LONG


def preload(room: Path) -> dict[str, str]:
    """Build what lets the kernel run on a CPU with many registers (see registers.c); nothing where there is no compiler."""
    compiler, library = shutil.which("gcc") or shutil.which("cc"), room / "registers.so"
    if not compiler:
        return {}
    build = [compiler, "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-o", str(library), str(HERE / "registers.c")]
    built = subprocess.run(build, capture_output=True, text=True, check=False)
    if built.returncode:
        print(f"nfs rig: registers.c is left out, it cannot be built: {built.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return {}
    return {"LD_PRELOAD": str(library)}


def memory_place() -> str:
    """Return where the file with the guest's memory goes, which is deleted at once: it is mapped, and run from."""
    for place in ("/dev/shm", "/var/tmp"):
        if os.path.isdir(place):
            status = os.statvfs(place)
            if status.f_bavail * status.f_frsize >= ROOM and not status.f_flag & os.ST_NOEXEC:
                return place
    raise UnableError("neither /dev/shm nor /var/tmp has a gigabyte from which programs may be run")


def search_path() -> str:
    """Return where programs are, those of administrators among them."""
    return os.pathsep.join((os.environ.get("PATH", os.defpath), *PLACES))


def main() -> int:
    """Run the command that is named."""
    parser = argparse.ArgumentParser(description="Run a command on a real NFSv4.2 with two clients.")
    parser.add_argument("--or-pass", action="store_true", help="exit with 0 where this host cannot do it")
    parser.add_argument("--limit", type=float, default=600, help="how long the command may take [s]")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if not options.command:
        parser.error("name a command")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(TOO_LONG))  # on the way out the guest is ended
    try:
        return run(options.command, options.limit)
    except UnableError as error:
        print(f"nfs rig: NOT RUN, there is no NFS to be had on this host: {error}", file=sys.stderr)
        return 0 if options.or_pass else UNABLE


if __name__ == "__main__":
    sys.exit(main())
