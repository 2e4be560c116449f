"""The journal: what was noted is told, by whoever asks; what is lost is made anew from the L0s."""

import itertools
import sqlite3
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import kpf_night
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assembler.core.exposure import MISSING_CODES
from assembler.core.instants import SECOND
from assembler.core.states import FIRST, LONGEST_PAUSE, OPEN, STEPS
from assembler.errors import ConfigurationError, InputError, OutputError
from assembler.fits.blocks import scan
from assembler.service.finder import find_night
from assembler.service.journal import Journal
from assembler.service.journal_reader import ExposureName, Sighting, open_reader
from assembler.service.journal_texts import as_text, bound
from assembler.service.pipeline import assemble

NFS = "1 0 0:1 / / rw - nfs4 server:/ rw"


class Clock:
    """A clock that a test sets; it ticks by a second."""

    def __init__(self) -> None:
        self.now = 10**18

    def __call__(self) -> int:
        self.now += SECOND
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def journal(tmp_path, clock):
    journal = Journal(tmp_path / "journal.db", clock)
    yield journal
    journal.close()


def named(frame, night="/data/night") -> ExposureName:
    return ExposureName(instrument="kpf", night=night, frame=frame)


def sub(path, origin="red", signature=(1, 2, 3)) -> Sighting:
    return Sighting(path=path, origin=origin, signature=signature)


def publish(journal, name, version=1, **more) -> None:
    if journal.read.exposure(name.key) is None:
        journal.note(name, "seen")
    for state in ("ready", "assembling", "verified"):
        journal.note(name, state)
    journal.note(name, "published", l0=f"/out/{name.frame}.fits", version=version, **more)


def test_what_was_noted_is_told_after_a_new_start(tmp_path, clock, journal):
    journal.note(named(1), "seen", "red arrived", sub_fits=[sub("/data/red", signature=(1, 2, 2**64 - 1))])
    journal.note(named(1), "waiting", "for green", sub_fits=[sub("/data/green", "green")])
    before = journal.read.exposure(named(1).key)
    journal.close()
    again = Journal(tmp_path / "journal.db", clock)
    assert again.moved_aside == ""
    entry = again.read.exposure(named(1).key)
    assert entry == before
    assert (entry.name, entry.state, entry.attempts, entry.version, entry.l0) == (named(1), "waiting", 0, 0, "")
    assert {o: (s.path, s.signature, s.key) for o, s in entry.sub_fits.items()} == {
        "red": ("/data/red", (1, 2, 2**64 - 1), named(1).key),
        "green": ("/data/green", (1, 2, 3), named(1).key),
    }
    assert [(s.state, s.detail) for s in again.read.history(named(1).key)] == [("seen", "red arrived"), ("waiting", "for green")]
    again.close()


def test_a_note_is_on_the_disk_when_it_returns(journal):
    ask = journal._connection.execute
    assert ask("PRAGMA synchronous").fetchone() == (2,)
    assert ask("PRAGMA journal_mode").fetchone() == ("wal",)


@given(data=st.data())
def test_it_takes_every_lawful_path_and_no_other(tmp_path_factory, data):
    journal = Journal(tmp_path_factory.mktemp("journal") / "journal.db", Clock())
    state, path = None, []
    for _ in range(data.draw(st.integers(1, 12))):
        following = data.draw(st.sampled_from(sorted(set(STEPS) | {"lost"})))
        lawful = following in (FIRST if state is None else STEPS[state])
        if lawful:
            journal.note(named(1), following)
            state = following
            path.append(state)
        else:
            with pytest.raises(ValueError, match=r"cannot become|is no state"):
                journal.note(named(1), following)
    entry = journal.read.exposure(named(1).key)
    assert (entry.state if entry else None) == state
    assert [s.state for s in journal.read.history(named(1).key)] == path
    assert sum(journal.read.counts().values()) == bool(path)
    journal.close()


def test_a_newer_version_is_told_to_supersede_the_older(journal):
    publish(journal, named(1), findings={"warning": 2})
    publish(journal, named(1), version=2, findings={"info": 1})
    entry = journal.read.exposure(named(1).key)
    assert (entry.state, entry.version, entry.findings) == ("published", 2, {"info": 1, "warning": 0, "error": 0})
    told = [(s.state, s.detail) for s in journal.read.history(named(1).key)]
    assert told[-2:] == [("superseded", "version 1 by version 2"), ("published", "")]
    assert [s for s, _ in told].count("superseded") == 1


def test_a_start_finds_what_was_open_and_makes_ready_what_was_in_the_middle(tmp_path, clock, journal):
    for frame, states in enumerate(
        (["seen"], ["seen", "waiting"], ["seen", "ready", "assembling"], ["seen", "ready", "assembling", "verified"])
    ):
        for state in states:
            journal.note(named(frame), state)
    publish(journal, named(10))
    journal.note(named(11), "seen")
    journal.note(named(11), "failed", reason="no FITS")
    journal.close()
    again = Journal(tmp_path / "journal.db", clock)
    assert {e.name.frame: e.state for e in again.resume()} == {0: "seen", 1: "waiting", 2: "ready", 3: "ready"}
    steps = len(again.read.history(named(3).key))
    assert {e.name.frame: e.attempts for e in again.resume()} == {0: 0, 1: 0, 2: 1, 3: 1}
    assert len(again.read.history(named(3).key)) == steps
    assert all(e.state in OPEN for e in again.read.open_exposures())
    again.close()


def test_what_failed_is_due_when_its_pause_is_over_and_at_once_when_the_clock_was_set_back(journal, clock):
    for state in ("seen", "ready", "assembling"):
        journal.note(named(1), state)
    again = journal.note_failure(named(1), OutputError("disk full"), 0.0)
    journal.note(named(2), "seen")
    assert journal.note_failure(named(2), InputError("no FITS"), 0.0) is None
    assert journal.read.due(again - 1) == []
    assert [e.name.frame for e in journal.read.due(again)] == [1]
    assert [e.name.frame for e in journal.read.due(again - LONGEST_PAUSE - SECOND)] == [1]
    assert journal.read.exposure(named(1).key).reason == "disk full"
    for state in ("ready", "assembling"):
        journal.note(named(1), state)
    assert journal.note_failure(named(1), OutputError("disk full"), 0.0) - clock.now > again - clock.now
    assert journal.read.exposure(named(1).key).attempts == 2
    journal.note(named(1), "waiting", "green arrived")
    entry = journal.read.exposure(named(1).key)
    assert (entry.attempts, entry.next_attempt, entry.reason) == (0, None, "")


def test_a_file_that_was_seen_is_known_by_its_path_and_signature(journal):
    journal.note(named(1), "seen", sub_fits=[sub("/data/red")])
    journal.note_sub_fits([sub("/data/stray", "guide")])
    assert journal.read.sighting("/data/red").key == named(1).key
    assert journal.read.sighting("/data/red").is_same((1, 2, 3))
    assert not journal.read.sighting("/data/red").is_same((1, 2, 4))
    assert journal.read.sighting("/data/nothing") is None
    assert [s.path for s in journal.read.orphans()] == ["/data/stray"]
    assert set(journal.read.sightings()) == {"/data/red", "/data/stray"}
    journal.note(named(1), "waiting", sub_fits=[sub("/data/stray", "guide")])
    assert journal.read.orphans() == []


def test_what_is_awaited_stays_until_it_is_told_anew_or_the_exposure_waits_no_more(tmp_path, clock, journal):
    def awaited():
        entry = journal.read.exposure(named(1).key)
        return entry.awaited, entry.until

    journal.note(named(1), "seen", awaited=("red", "green"), until=5)
    journal.note(named(1), "waiting", "something else")
    assert awaited() == (("red", "green"), 5)
    journal.note(named(1), "waiting", until=6)
    assert awaited() == (("red", "green"), 6)
    journal.note(named(1), "waiting", awaited=("g\udcffeen\ud800",))
    assert awaited() == (("g\udcffeen\ud800",), None)
    journal.note(named(1), "waiting", awaited=(), until=7)
    assert awaited() == ((), 7)
    journal.note(named(1), "ready", awaited=("red",), until=8)
    assert awaited() == ((), None)
    journal.note(named(1), "waiting", awaited=("red",), until=8)
    journal.note_failure(named(1), OutputError("disk full"), 0.0)
    assert awaited() == ((), None)
    journal.note(named(1), "waiting", awaited=("red",), until=8)
    journal.close()
    again = Journal(tmp_path / "journal.db", clock)
    assert [(e.awaited, e.until) for e in again.resume()] == [(("red",), 8)]
    again.close()


def test_why_an_l0_lacks_an_origin_is_known_until_another_version_has_it(journal):
    publish(journal, named(1), missing={"red": "truncated", "green": "absent"})
    journal.note(named(1), "waiting", "red again")
    assert journal.read.exposure(named(1).key).missing == {"red": "truncated", "green": "absent"}
    publish(journal, named(1), version=2, missing={})
    assert journal.read.exposure(named(1).key).missing == {}


def test_two_exposures_are_never_mixed(journal):
    journal.note(named(1), "seen", sub_fits=[sub("/data/red")])
    with pytest.raises(ValueError, match="cannot belong to"):
        journal.note(named(2), "seen", sub_fits=[sub("/data/red")])
    assert journal.read.exposure(named(2).key) is None
    journal.note(named(2), "seen", sub_fits=[sub("/data/red", signature=(9, 9, 9))])
    assert journal.read.exposure(named(1).key).sub_fits == {}
    journal.note(named(2), "superseded", reason="is frame 1")
    journal.note(named(1), "waiting", sub_fits=[sub("/data/red", signature=(9, 9, 9))])
    assert list(journal.read.exposure(named(1).key).sub_fits) == ["red"]
    with pytest.raises(ValueError, match="not known"):
        journal.note_sub_fits([Sighting(path="/data/x", origin="red", signature=None, key="/nowhere#1")])


def test_of_an_origin_with_another_file_the_first_one_is_an_orphan(journal):
    journal.note(named(1), "seen", sub_fits=[sub("/data/red")])
    journal.note(named(1), "waiting", sub_fits=[sub("/data/red2")])
    assert journal.read.exposure(named(1).key).sub_fits["red"].path == "/data/red2"
    assert [s.path for s in journal.read.orphans()] == ["/data/red"]


@given(
    text=st.text(max_size=20)
    | st.text(st.characters(categories=["Cs"]), max_size=3)
    | st.binary(max_size=20).map(lambda b: b.decode("utf-8", "surrogateescape"))
)
def test_no_name_is_too_strange(tmp_path_factory, text):
    journal = Journal(tmp_path_factory.mktemp("journal") / "journal.db", Clock())
    name = ExposureName(instrument="x", night=text, frame=10**30)
    journal.note(name, "seen", text, sub_fits=[sub(text)])
    entry = journal.read.exposure(name.key)
    assert entry.name.frame == 10**30
    assert entry.state == "seen"
    assert journal.read.last(1) == [entry]
    if as_text(bound(text)) == text:  # all but lone surrogates, which are in no file name
        assert entry.name == name
        assert entry.sub_fits["red"].path == text
    journal.renew()
    assert journal.moved_aside == ""
    journal.close()


def test_the_last_exposures_are_those_noted_last_though_the_clock_was_set_back(journal, clock):
    for frame in range(5):
        journal.note(named(frame), "seen")
        clock.now -= 100 * SECOND
    journal.note(named(0), "waiting")
    assert [e.name.frame for e in journal.read.last(3)] == [0, 4, 3]
    assert [e.name.frame for e in journal.read.of_night("/data/night")] == [1, 2, 3, 4, 0]
    assert journal.read.counts()["seen"] == 4


def test_a_reader_reads_while_the_journal_is_written_and_never_writes(tmp_path, journal):
    reader = open_reader(str(tmp_path / "journal.db"))
    for frame in range(20):
        journal.note(named(frame), "seen")
        assert reader.counts()["seen"] == frame + 1
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader._connection.execute("DELETE FROM exposures")
    reader.close()


def test_somebody_who_may_not_write_there_can_read_it(clock):
    """Reads as nobody, or where the tests are not root's, in a directory that is for reading only."""
    program = "import os, sys\nfrom assembler.service.journal_reader import open_reader\n"
    program += "if not os.geteuid(): os.seteuid(65534)\nprint(open_reader(sys.argv[1]).counts()['seen'])"
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "journal.db"

        def read() -> str:
            Path(directory).chmod(0o555)
            path.chmod(0o444)
            told = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False)
            Path(directory).chmod(0o755)
            path.chmod(0o644)
            return told.stdout + told.stderr

        journal = Journal(path, clock)
        journal.note(named(1), "seen")
        assert read() == "1\n"
        journal.close()
        assert read() == "1\n"


def test_a_reader_of_what_is_no_journal_is_told_so(tmp_path):
    with pytest.raises(ConfigurationError, match="there is no journal"):
        open_reader(str(tmp_path / "nothing.db"))
    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE t (x)").connection.close()
    with pytest.raises(ConfigurationError, match="is no journal"):
        open_reader(str(tmp_path / "other.db"))
    (tmp_path / "text.db").write_text("just some text\n" * 400)
    with pytest.raises(OutputError, match="damaged"):
        open_reader(str(tmp_path / "text.db"))


def test_a_reader_of_the_journal_of_another_version_is_told_so(tmp_path, journal):
    journal.close()
    connection = sqlite3.connect(tmp_path / "journal.db")
    connection.execute("PRAGMA user_version = 1")
    connection.close()
    with pytest.raises(ConfigurationError, match="is a journal of format 1, not 2"):
        open_reader(str(tmp_path / "journal.db"))


def test_a_network_file_system_is_refused(tmp_path, clock):
    with pytest.raises(ConfigurationError, match=r"network file system \(nfs4\).*local disk"):
        Journal(tmp_path / "sub" / "journal.db", clock, NFS)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigurationError, match="is a directory"):
        Journal(tmp_path, clock)


def test_what_is_old_is_forgotten_if_it_is_done_or_its_night_is_not_there(journal, clock):
    for frame in range(30):
        publish(journal, named(frame, "/old"))
        journal.note_sub_fits([Sighting(path=f"/old/{frame}", origin="red", signature=(1, 1, 1), key=named(frame, "/old").key)])
    publish(journal, named(1, "/watched"))
    journal.note(named(2, "/watched"), "seen")
    journal.note(named(50, "/old"), "seen")
    journal.note(named(51, "/old"), "seen")
    journal.note(named(51, "/old"), "failed", again_at=clock.now + 2**40)
    journal.note_sub_fits([sub("/old/orphan"), sub("/watched/orphan")])
    limit = clock.now + 1
    publish(journal, named(3, "/old"), version=2)
    assert journal.forget(limit, watched=["/watched"]) == 31
    assert {e.name.frame for e in journal.read.of_night("/old")} == {3}
    assert journal.read.history(named(1, "/watched").key) == []
    assert journal.read.exposure(named(1, "/watched").key).state == "published"
    assert len(journal.read.history(named(2, "/watched").key)) == 1
    assert set(journal.read.sightings()) == {"/old/3", "/watched/orphan"}


def test_an_exposure_that_is_tried_for_ever_has_a_bounded_history(journal):
    journal.note(named(1), "seen", "x" * 10**6)
    for _ in range(300):
        journal.note(named(1), "waiting")
        journal.note(named(1), "failed", reason="y" * 10**6, again_at=1)
    assert len(journal.read.history(named(1).key)) == 200
    assert len(journal.read.exposure(named(1).key).reason) == 1000


def test_a_journal_that_is_made_anew_from_the_l0s_tells_what_was_noted(kpf, tmp_path, clock, make, journal):
    night = kpf_night.make_night(tmp_path / "data", exposures=3)
    paths = []
    night.sub_fits(night.frames[1])["red"].unlink()
    for frame in night.frames:
        outcome = make(find_night(kpf, night.directory, frame))
        missing = {f.origin: f.code for f in outcome.plan.findings if f.code in MISSING_CODES}
        name = ExposureName(instrument=kpf.name, night=str(night.directory), frame=frame)
        found = {
            o: Sighting(path=str(p), origin=o, signature=scan(str(p)).signature) for o, p in night.sub_fits(frame).items() if p.exists()
        }
        journal.note(name, "seen", sub_fits=found.values())
        counted = {s: sum(f.severity == s for f in outcome.plan.findings) for s in ("info", "warning", "error")}
        for state in ("ready", "assembling", "verified"):
            journal.note(name, state)
        journal.note(name, "published", l0=str(outcome.path), version=1, findings=counted, missing=missing)
        paths.append(outcome.path)
    (tmp_path / "out" / "no_l0.fits").write_bytes(night.sub_fits(night.frames[0])["red"].read_bytes())
    paths.append(tmp_path / "out" / "no_l0.fits")
    noted = [told(e) for e in journal.read.of_night(str(night.directory))]
    for order in itertools.islice(itertools.permutations(paths), 0, 24, 7):
        anew = Journal(tmp_path / f"anew{len(list(tmp_path.iterdir()))}.db", clock)
        assert anew.needs_rebuild
        result = anew.rebuild(order, kpf)
        assert (result.noted, [p for p, _ in result.refused]) == (3, [str(paths[-1])])
        assert sorted(map(told, anew.read.of_night(str(night.directory))), key=str) == sorted(noted, key=str)
        assert not anew.needs_rebuild
        assert anew.rebuild(order, kpf).noted == 0
        assert all(anew.read.sighting(str(p)).is_same((1, 2, 3)) for p in night.sub_fits(night.frames[0]).values())
        anew.note_sub_fits([replace(anew.read.sighting(str(p)), signature=(7, 7, 7)) for p in night.sub_fits(night.frames[0]).values()])
        assert not anew.read.sighting(str(night.sub_fits(night.frames[0])["red"])).is_same((1, 2, 3))
        anew.close()


def told(entry) -> tuple:
    """Return what of an entry the L0 tells, too."""
    paths = {o: s.path for o, s in entry.sub_fits.items()}
    return (entry.name, entry.state, entry.attempts, entry.l0, entry.version, paths, entry.findings, entry.reason, entry.missing)


@pytest.mark.parametrize("backwards", [False, True])
def test_of_two_versions_the_newer_one_is_taken_over_and_the_older_told(kpf, night, make, journal, backwards):
    outcome = make(find_night(kpf, night.directory, night.frames[0]))
    newer = outcome.path.with_name("newer.fits")
    newer.write_bytes(outcome.path.read_bytes().replace(b"L0VER   =                    1", b"L0VER   =                    2", 1))
    paths = [outcome.path, newer]
    assert journal.rebuild(reversed(paths) if backwards else paths, kpf).noted == 2
    (entry,) = journal.read.last(5)
    assert (entry.state, entry.version, entry.l0) == ("published", 2, str(newer))
    assert [s.state for s in journal.read.history(entry.name.key)] == ["published", "superseded", "published"]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_an_l0_that_is_damaged_is_passed_over(kpf, tmp_path_factory, data):
    directory = tmp_path_factory.getbasetemp() / "damaged"
    if not directory.exists():
        night = kpf_night.make_night(directory / "data", shape=(4, 4))
        found = find_night(kpf, night.directory, night.frames[0])
        assemble(found, None, directory / "out", version="test", clock=lambda: 10**18)
    (whole,) = (directory / "out").iterdir()
    raw = bytearray(whole.read_bytes())
    findings = raw.index(b"EXTNAME = 'FINDINGS'")
    for _ in range(data.draw(st.integers(1, 5))):
        begin, end = data.draw(st.sampled_from([(0, 12_000), (findings - 700, findings + 2000), (0, len(raw))]))
        raw[data.draw(st.integers(begin, min(end, len(raw)) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("l0") / "l0.fits"
    path.write_bytes(raw[: data.draw(st.none() | st.integers(0, len(raw)))])
    journal = Journal(path.with_name("journal.db"), Clock())
    result = journal.rebuild([path], kpf)
    assert result.noted + len(result.refused) == 1
    assert all(str(path) in told and "\n" not in told for _, told in result.refused)
    assert len(journal.read.last(5)) == result.noted
    journal.renew()
    assert journal.moved_aside == ""
    journal.close()


def test_threads_that_note_at_the_same_time_do_not_disturb_each_other(journal):
    def note(thread: int) -> None:
        for frame in range(20):
            journal.note(named(frame, f"/night{thread}"), "seen")
            journal.note(named(frame, f"/night{thread}"), "ready")
            assert len(journal.read.of_night(f"/night{thread}")) == frame + 1

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(note, range(6)))
    assert journal.read.counts()["ready"] == 120


def test_making_anew_leaves_alone_what_is_being_made(kpf, tmp_path, journal, night, make):
    outcome = make(find_night(kpf, night.directory, night.frames[0]))
    name = ExposureName(instrument=kpf.name, night=str(night.directory), frame=night.frames[0])
    for state in ("seen", "ready", "assembling"):
        journal.note(name, state)
        if state != "seen":
            assert journal.rebuild([outcome.path], kpf).noted == 0
            assert journal.read.exposure(name.key).state == state


@pytest.mark.parametrize("state", ["seen", "waiting"])
def test_what_merely_waited_has_the_l0_that_another_watcher_made_of_it(kpf, journal, night, make, state):
    outcome = make(find_night(kpf, night.directory, night.frames[0]))
    name = ExposureName(instrument=kpf.name, night=str(night.directory), frame=night.frames[0])
    journal.note(name, "seen")
    journal.note(name, state)
    assert [journal.rebuild([outcome.path], kpf).noted for _ in range(2)] == [1, 0]
    entry = journal.read.exposure(name.key)
    assert (entry.state, entry.version, entry.l0, len(entry.sub_fits)) == ("published", 1, str(outcome.path), 5)


def test_making_anew_without_any_l0_is_done_as_well(kpf, journal):
    assert journal.needs_rebuild
    assert journal.rebuild([], kpf).noted == 0
    assert not journal.needs_rebuild
