"""Rehearse a night: the simulator plays it, the watcher watches it, and everything that came of it is compared with what had to.

    python bench/rehearsal.py --exposures 1000 --speed 20 --trouble 10
    python bench/rehearsal.py --exposures 100 --kills 100

Each exposure has to end in the state that the simulator tells, every L0 has to pass ``assembler verify``, and nothing may be left
behind: no temporary file, no thread, no open file, no memory that grows with the number of exposures. With ``--kills`` the watcher
is killed with SIGKILL at random moments, and begun again each time. Exit code 1 when anything is not as it has to be.
"""

import argparse
import datetime as dt
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "fixtures"))

import kpf_exposure  # noqa: E402
import kpf_night  # noqa: E402

PROGRAM = [sys.executable, "-m", "assembler"]
WAITS = 60.0
"""How long the watcher waits for a sub-FITS by the clock of the night [s], as the simulator is told."""


def main() -> int:
    """Rehearse; return 1 when something was not as it has to be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exposures", type=int, default=20)
    parser.add_argument("--spacing", type=float, default=8.0, help="from begin to begin [s of the night]")
    parser.add_argument("--speed", type=float, default=20.0)
    parser.add_argument("--trouble", type=float, default=10.0, help="percent")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--work", type=Path, help="where everything is put and stays [default: a temporary directory]")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        return rehearse(told, told.work or Path(temporary))


def rehearse(told: argparse.Namespace, work: Path) -> int:
    """Make a night, play it and watch it in a directory."""
    kpf_exposure.SPACING = dt.timedelta(seconds=told.spacing)
    kpf_exposure.LENGTH = dt.timedelta(seconds=told.spacing * 0.4)
    night = kpf_night.make_night(work / "recorded", exposures=told.exposures, shape=(8, 6))
    # Values that belong to no exposure's middle, only there to be told from the right ones, would be those of its neighbours here.
    samples = [
        line for line in night.telemetry.read_text().splitlines(keepends=True) if not re.search(r'TRIGTARG.* (earlier|later)"', line)
    ]
    night.telemetry.write_text("".join(samples))
    yaml, report = work / "kpf.yaml", work / "report.json"
    text = (ROOT / "prefixes.yaml").read_text(encoding="utf-8")
    yaml.write_text(
        re.sub(r"readout: \d+ s", "readout: 0 s", text.replace("margin: 60 s", f"margin: {WAITS / told.speed} s")), encoding="utf-8"
    )
    played = work / "played"
    played.mkdir()
    simulate = [*PROGRAM, "simulate", str(night.directory), "--to", str(played), "-i", str(yaml), "--report", str(report)]
    simulate += ["--speed", str(told.speed), "--trouble", str(told.trouble), "--seed", str(told.seed), "--deadline", f"{WAITS:g} s"]
    simulate += ["--telemetry", str(night.telemetry), "--history", f"sqlite:///{work / 'history.db'}"]
    watcher = Watched(work, yaml)
    begun = time.monotonic()
    with (work / "simulate.log").open("wb") as log:
        player = subprocess.Popen(simulate, stdout=log, stderr=log)
        watcher.begin()
        chance = random.Random(told.seed)
        pause = told.exposures * told.spacing / told.speed / max(1, told.kills)
        while player.poll() is None:
            if watcher.kills < told.kills:
                time.sleep(pause * chance.random() * 1.6)
                watcher.kill()
                watcher.begin()
            else:
                time.sleep(0.2)
                watcher.measure()
    while watcher.kills < told.kills:
        time.sleep(chance.random())
        watcher.kill()
        watcher.begin()
    watcher.wait_until_idle()
    watcher.measure()
    wrong = compare(json.loads(report.read_text(encoding="utf-8")), work, told)
    wrong += watcher.end()
    print(f"{told.exposures} exposures, {watcher.kills} kills, {time.monotonic() - begun:.0f} s, {len(wrong)} wrong")
    print(watcher.summary())
    for line in wrong:
        print(f"  {line}")
    return 1 if wrong or player.returncode else 0


class Watched:
    """The watcher as a process, begun as often as it was killed."""

    def __init__(self, work: Path, yaml: Path) -> None:
        self.work = work
        self.kills = 0
        self.resident: list[int] = []
        self.files: list[int] = []
        self.threads: list[int] = []
        self._command = [*PROGRAM, "watch", str(work / "played"), "--out", str(work / "out"), "--journal", str(work / "journal.sqlite")]
        self._command += ["-i", str(yaml), "--history", f"sqlite:///{work / 'history.db'}", "--json", "--settling", "1 s"]
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        """Begin to watch."""
        with (self.work / "watch.log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def kill(self) -> None:
        """Kill it, wherever it is."""
        assert self._process
        self._process.kill()
        self._process.wait()
        self.kills += 1

    def measure(self) -> None:
        """Remember resident memory [KiB], open files and threads."""
        assert self._process
        directory = Path(f"/proc/{self._process.pid}")
        status = (directory / "status").read_text()
        self.resident.append(int(re.search(r"VmRSS:\s+(\d+)", status)[1]))
        self.threads.append(int(re.search(r"Threads:\s+(\d+)", status)[1]))
        self.files.append(len(os.listdir(directory / "fd")))

    def wait_until_idle(self) -> None:
        """Wait until nothing was noted for longer than any deadline."""
        seen, since, log = -1, time.monotonic(), self.work / "watch.log"
        while time.monotonic() - since < 12:
            time.sleep(0.5)
            if log.stat().st_size != seen:
                seen, since = log.stat().st_size, time.monotonic()

    def end(self) -> list[str]:
        """Stop it; return what is wrong with how it ended, and with what it needed."""
        assert self._process
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(30)
        wrong = [f"exit code {code}"] if code else []
        events = Counter(json.loads(line)["event"] for line in (self.work / "watch.log").read_bytes().splitlines() if line.startswith(b"{"))
        wrong += [f"{events[event]} times {event}" for event in ("bug", "journal_failed", "journal_refused", "lease_lost") if events[event]]
        return wrong

    def summary(self) -> str:
        """Return what it needed."""
        some = self.resident[len(self.resident) // 5 :] or [0]
        return (
            f"resident {some[0] >> 10} to {some[-1] >> 10} MiB, threads {min(self.threads)} to {max(self.threads)}, "
            f"files {min(self.files)} to {max(self.files)}, seconds to an L0: {self._latencies()}"
        )

    def _latencies(self) -> str:
        lines = (json.loads(line) for line in (self.work / "watch.log").read_bytes().splitlines() if line.startswith(b"{"))
        seconds = sorted(line["seconds"] for line in lines if line["event"] == "published" and not line["missing"])
        return f"median {seconds[len(seconds) // 2]:.3f}, worst {seconds[-1]:.3f}" if seconds else "none"


def compare(report: dict, work: Path, told: argparse.Namespace) -> list[str]:
    """Compare what the simulator expects with the journal and the L0s; return what differs."""
    wrong = []
    out = work / "out"
    with sqlite3.connect(f"file:{work / 'journal.sqlite'}?mode=ro", uri=True) as journal:
        rows = journal.execute("SELECT frame, state, l0, version FROM exposures").fetchall()
        orphans = {os.path.relpath(path, work / "played") for (path,) in journal.execute("SELECT path FROM sub_fits WHERE key IS NULL")}
        published = Counter(dict(journal.execute("SELECT key, count(*) FROM history WHERE state = 'published' GROUP BY key")))
    states = {int(frame): (state, l0, version) for frame, state, l0, version in rows}
    for frame, expected in report["exposures"].items():
        state, l0, version = states.pop(int(frame), ("nothing", "", 0))
        found = state
        if state == "published":
            attached = origins_in(Path(l0))
            if version > 1:
                found = "superseded"
            elif set(expected["files"]) - attached or expected["missing"]:
                found = "partial"
            if attached != set(expected["files"]):
                wrong.append(f"{frame}: has {sorted(attached)}, not {sorted(expected['files'])}")
        if told.kills and found == "published" and expected["state"] == "superseded":
            continue  # it was made late, when everything was there
        if found != expected["state"]:
            wrong.append(f"{frame}: {found}, not {expected['state']} ({expected['trouble'] or 'no trouble'} {expected['origin']})")
        if version > (2 if expected["state"] == "superseded" else 1) and len(expected["late"]) < 2:
            wrong.append(f"{frame}: version {version} ({expected['state']})")
    wrong += [f"{frame}: nobody expects it, and it is {state}" for frame, state in states.items()]
    night = next(iter((work / "played").iterdir())).name
    awaited = {f"{night}/{path}" for orphan in report["orphans"] for path in orphan["files"].values()}
    if not awaited <= orphans:
        wrong.append(f"orphans that are not told: {sorted(awaited - orphans)}")
    l0s = sorted(out.rglob("*.fits"))
    named = [path.name for path in l0s if path.parent == out]
    if len(named) != sum(bool(l0) for _, _, l0, _ in rows):
        wrong.append(f"{len(named)} L0s, {sum(bool(l0) for _, _, l0, _ in rows)} in the journal")
    left = [name for name in os.listdir(out) if name.startswith(".") and not name.startswith(".watcher.lease.")]
    wrong += [f"left behind: {name}" for name in left]
    wrong += [f"{key} was published {count} times" for key, count in published.items() if count > 3]
    for begin in range(0, len(l0s), 200):
        done = subprocess.run([*PROGRAM, "verify", *map(str, l0s[begin : begin + 200])], capture_output=True, check=False)
        if done.returncode:
            wrong.append(f"verify: {done.stderr.decode()[-500:]}")
    return wrong


def origins_in(l0: Path) -> set[str]:
    """Return the origins that an L0 has, by its flags."""
    flags = {"green": "GREEN", "red": "RED", "ca_hk": "CA_HK", "expmeter": "EXPMETER", "guide": "GUIDE"}
    with l0.open("rb") as file:
        header = file.read(200 * 80).decode("latin-1")
    cards = [header[i : i + 80] for i in range(0, len(header), 80)]
    return {name for name, flag in flags.items() if any(c.startswith(f"{flag:8}= 'YES") for c in cards)}


if __name__ == "__main__":
    sys.exit(main())
