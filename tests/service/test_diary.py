"""The diary: exposures go on while the journal cannot be written, and afterwards it is as if it always had been."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recording import Recording

from assembler.core.instants import SECOND
from assembler.core.states import FINAL, FIRST_PAUSE, OPEN, STATES, STEPS, is_lawful
from assembler.errors import InputError, OutputError
from assembler.service.diary import KEPT, Diary, _way
from assembler.service.journal import Journal
from assembler.service.journal_reader import ExposureName, Sighting

NIGHT = "/data/night"


@dataclass
class Desk:
    """A diary on a real journal, with what it is given."""

    directory: Path
    instrument: object
    now: int = 1_790_000_000 * SECOND
    l0s: list[Path] = field(default_factory=list)
    log: Recording = field(default_factory=Recording)

    def __post_init__(self) -> None:
        self.path = self.directory / "journal.db"
        self.open()

    def open(self) -> None:
        self.journal = Journal(self.path, self.clock)
        self.diary = Diary(self.journal, self.instrument, lambda: self.l0s, self.clock, self.log)

    def clock(self) -> int:
        self.now += 1
        return self.now

    def fill(self) -> None:
        """Let the journal have no more pages than it has, as on a disk that is full, until it is opened again."""
        (pages,) = self.journal._connection.execute("PRAGMA page_count").fetchone()
        self.journal._connection.execute(f"PRAGMA max_page_count = {pages}")

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Let another one have the journal, so that it cannot be opened again."""
        lock = Path(f"{self.path}.lock")
        lock.unlink()
        with closing(Journal(self.path, self.clock)):
            yield
        lock.unlink()

    def content(self) -> dict[str, object]:
        """Return what the journal has of each exposure, its times apart."""
        read = self.journal.read
        return {
            e.name.key: (
                *(e.state, e.attempts, e.next_attempt, e.l0, e.version, dict(e.findings), e.reason, e.awaited, e.until, dict(e.missing)),
                {o: (s.path, s.signature) for o, s in e.sub_fits.items()},
                [(s.state, s.detail) for s in read.history(e.name.key)],
            )
            for e in read.last(1000)
        } | {"orphans": {s.path for s in read.orphans()}}


@pytest.fixture
def desk(tmp_path, kpf) -> Iterator[Desk]:
    desk = Desk(tmp_path, kpf)
    yield desk
    desk.diary.close()


def named(frame: int = 1) -> ExposureName:
    return ExposureName(instrument="KPF", night=NIGHT, frame=frame)


def sub(frame: int, origin: str = "red", size: int = 1) -> Sighting:
    return Sighting(path=f"{NIGHT}/{origin}_{frame}.fits", origin=origin, signature=(size, 2, 3))


def publish(diary: Diary, frame: int = 1, version: int = 1, size: int = 1) -> None:
    """Note what the maker notes."""
    diary.note(named(frame), "ready", sub_fits=[sub(frame, size=size)])
    diary.note(named(frame), "assembling")
    diary.note(named(frame), "verified", f"/out/{frame}.fits")
    diary.note(
        named(frame), "published", f"version {version}", l0=f"/out/{frame}.fits", version=version, findings={"info": version}, missing={}
    )


@pytest.mark.parametrize("before", [None, *STATES])
@pytest.mark.parametrize("after", [state for state in STATES if state != "seen"])
def test_a_lawful_way_leads_from_every_state_to_every_other(before, after):
    way = _way(before, after)
    assert way[-1] == after
    assert all(is_lawful(*step) for step in zip([before, *way], way, strict=False))
    assert len(set(way)) == len(way) <= 5
    if is_lawful(before, after) and before:
        assert way == [after]
    assert len(way) < 2 or "superseded" not in way[:-1]


@pytest.mark.parametrize(
    ("before", "after"), [(b, a) for b in STATES for a in sorted(OPEN - {"seen"}) if b not in ("assembling", "verified")]
)
def test_no_way_to_a_state_that_does_not_last_tells_of_an_l0_or_a_failure_that_never_was(before, after):
    assert not FINAL & set(_way(before, after))


def test_states_that_were_passed_over_are_noted_too(desk):
    desk.diary.note(named(), "waiting", "for green", awaited=("green",), until=7)
    desk.diary.note(named(), "published", "version 1", l0="/out/1.fits", version=1)
    history = desk.journal.read.history(named().key)
    assert [s.state for s in history] == ["seen", "waiting", "ready", "assembling", "published"]
    assert all(b in STEPS[a] for a, b in zip([s.state for s in history], [s.state for s in history][1:], strict=False))


@pytest.fixture(params=["full", "deleted", "replaced", "garbage"])
def broken(request, desk) -> Desk:
    """Break the journal in a way that the next note finds."""
    publish(desk.diary, 1)
    if request.param == "full":
        desk.fill()
    elif request.param == "deleted":
        desk.path.unlink()
    elif request.param == "replaced":
        desk.path.rename(desk.directory / "moved.db")
        desk.path.write_bytes(b"something else")
    else:
        desk.journal._connection.close()  # SQLite would not look at the file again as long as it has it in memory
        desk.path.write_bytes(os.urandom(desk.path.stat().st_size))
    return desk


def test_what_cannot_be_noted_is_noted_when_the_journal_can_be_written_again(broken):
    diary = broken.diary
    for frame in range(2, 80):
        publish(diary, frame)
    assert diary.failure
    assert broken.log.events().count("journal_failed") == 1
    assert diary.counts() == {}
    diary.mend()
    assert diary.failure == ""
    assert broken.log.events()[-1] == "journal_recovered"
    entries = {e.name.frame: e for e in broken.journal.read.last(1000)}
    assert set(range(2, 80)) <= set(entries)
    assert {(e.state, e.version, e.l0) for f, e in entries.items()} == {("published", 1, f"/out/{f}.fits") for f in entries}
    publish(diary, 2, version=2)
    assert broken.journal.read.exposure(named(2).key).version == 2
    assert broken.log.events().count("journal_failed") == 1


def test_while_another_program_has_the_journal_locked_notes_are_owed(desk):
    """The journal waits for it once, for as long as it waits for anybody."""
    publish(desk.diary, 1)
    with closing(sqlite3.connect(desk.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for version in (2, 3):
            publish(desk.diary, 1, version)
        assert "another program" in desk.diary.failure
        assert [e.version for e in desk.diary.of_night(NIGHT)[0]] == [1]
        other.execute("ROLLBACK")
    desk.diary.mend()
    assert [e.version for e in desk.diary.of_night(NIGHT)[0]] == [3]
    assert [s.detail for s in desk.journal.read.history(named().key) if s.state == "superseded"] == [
        "version 1 by version 2",
        "version 2 by version 3",
    ]


def test_what_is_owed_stays_owed_until_the_journal_can_be_opened(desk):
    with desk.taken():
        desk.fill()
        for frame in range(100):
            publish(desk.diary, frame)
        desk.diary.note_sub_fits([sub(7777, "guide")])
        for _ in range(2):
            desk.diary.mend()
            assert "has this journal" in desk.diary.failure
    desk.diary.mend()
    assert desk.diary.failure == ""
    assert len(desk.journal.read.last(1000)) == 100
    assert [s.path for s in desk.journal.read.orphans()] == [f"{NIGHT}/guide_7777.fits"]


NOTES = st.lists(
    st.tuples(
        st.integers(1, 2),
        st.sampled_from(["waiting", "ready", "assembling", "verified", "published", "failed", "refused", "orphan"]),
        st.sampled_from(["", "", "fill", "mend", "close"]),
    ),
    max_size=25,
)


@settings(max_examples=30)
@given(notes=NOTES)
def test_with_any_failures_in_between_the_journal_ends_as_without(kpf, tmp_path_factory, notes):
    sound, failing = (Desk(tmp_path_factory.mktemp("desk"), kpf) for _ in range(2))
    for number, (frame, what, trouble) in enumerate(notes):
        if trouble == "fill" and not failing.diary.failure:
            failing.fill()
        elif trouble == "close":
            failing.journal._connection.close()
        elif trouble == "mend":
            failing.diary.mend()
        for desk in (sound, failing):
            known = {
                "waiting": {"awaited": ("green", "red")[number % 2 :], "until": number, "sub_fits": [sub(frame, size=number)]},
                "ready": {"sub_fits": [sub(frame, "green", size=number), sub(frame, size=number)]},
                "published": {
                    "l0": f"/out/{number}.fits",
                    "version": number + 1,
                    "findings": {"error": number},
                    "missing": {"guide": "absent"},
                },
                "failed": {"reason": f"reason {number}", "again_at": number},
                "refused": {"sub_fits": [sub(3 - frame, size=number)]},
            }.get(what, {})
            desk.now = number * SECOND
            if what == "orphan":
                desk.diary.note_sub_fits([sub(1000 + number)])
            else:
                desk.diary.note(named(frame), "waiting" if what == "refused" else what, f"detail {number} " + "d" * 900, **known)
    failing.diary.mend()
    assert failing.diary.failure == ""
    assert failing.content() == sound.content()
    for desk in (sound, failing):
        desk.diary.close()


def test_a_failure_pauses_longer_each_time_and_starts_anew_after_success(desk):
    def fail() -> int:
        desk.diary.note(named(), "assembling")
        before = desk.now
        return desk.diary.note_failure(named(), OutputError("disk full"), 0.0) - before

    pauses = [fail() // FIRST_PAUSE for _ in range(4)]
    assert pauses == [1, 2, 4, 8]
    entry = desk.diary.entry(named())
    assert (entry.state, entry.reason, entry.next_attempt is None) == ("failed", "disk full", False)
    publish(desk.diary)
    assert desk.diary.entry(named()).reason == ""
    assert fail() // FIRST_PAUSE == 1
    assert desk.diary.note_failure(named(), InputError("no FITS"), 0.0) is None
    assert desk.diary.entry(named()).next_attempt is None


def test_a_failure_pauses_longer_each_time_without_a_journal_too(desk):
    desk.path.unlink()
    pauses = []
    for _ in range(3):
        desk.diary.note(named(), "assembling")
        pauses.append((desk.diary.note_failure(named(), OutputError("disk full"), 0.0) - desk.now) // FIRST_PAUSE)
    assert pauses == [1, 2, 4]


def test_a_note_that_the_journal_refuses_is_told_and_stops_nothing(desk):
    desk.diary.note(named(1), "waiting", sub_fits=[sub(1)])
    desk.diary.note(named(2), "waiting", sub_fits=[sub(1)])
    desk.diary.note_sub_fits([Sighting(path="/x.fits", origin="red", signature=None, key="/data/unknown#1")])
    assert desk.log.events() == ["journal_refused"] * 2
    assert desk.diary.failure == ""
    assert desk.diary.entry(named(1)).sub_fits["red"].path == sub(1).path


def test_a_start_catches_up_with_the_l0s_and_tells_what_was_open(desk, found, make):
    outcome = make(found)
    name = ExposureName(instrument="KPF", night=str(Path(found.subs["green"].path).parent.parent), frame=found.frame)
    desk.diary.note(named(5), "assembling")
    desk.l0s.append(outcome.path)
    (open_one,) = desk.diary.begin()
    assert (open_one.name, open_one.state) == (named(5), "ready")
    entries, orphans = desk.diary.of_night(name.night)
    assert [(e.name, e.state, e.l0, e.version) for e in entries] == [(name, "published", str(outcome.path), 1)]
    assert orphans == []
    assert "journal_caught_up" in desk.log.events()


def test_a_journal_that_is_gone_is_made_anew_from_the_l0s_as_soon_as_a_night_is_asked_for(desk, found, make):
    outcome = make(found)
    night = str(Path(found.subs["green"].path).parent.parent)
    desk.diary.begin()
    desk.l0s.append(outcome.path)
    desk.journal._connection.close()
    desk.path.unlink()
    entries, _ = desk.diary.of_night(night)
    assert [(e.name.frame, e.state, e.l0) for e in entries] == [(found.frame, "published", str(outcome.path))]
    assert desk.diary.failure == ""


def test_what_is_no_l0_is_told_and_one_older_than_the_journal_remembers_is_not_read_at_each_start(desk, tmp_path):
    recent, old, gone = (tmp_path / f"{name}.fits" for name in ("recent", "old", "gone"))
    for path, age in ((recent, 0), (old, KEPT + SECOND)):
        path.write_bytes(b"no FITS")
        os.utime(path, ns=(desk.now - age, desk.now - age))
    desk.l0s += [recent, old, gone]

    def refused() -> list[str]:
        desk.log.told.clear()
        desk.diary.begin()
        return [fields["path"] for _, event, fields in desk.log.told if event == "l0_not_read"]

    assert refused() == [str(recent), str(old)]
    assert refused() == [str(recent)]


def test_what_is_long_done_is_forgotten_but_not_of_nights_that_are_there(desk):
    publish(desk.diary, 1)
    desk.diary.note(ExposureName(instrument="KPF", night="/data/gone", frame=1), "published")
    desk.diary.note(named(2), "waiting")
    desk.now += KEPT + SECOND
    desk.diary.forget([NIGHT])
    assert {e.name.key for e in desk.journal.read.last(10)} == {named(1).key, named(2).key}
    assert desk.log.events() == ["journal_shortened"]
    desk.path.unlink()
    desk.diary.forget([])
    assert desk.diary.failure
    desk.diary.forget([])


def test_a_file_that_was_no_journal_is_moved_aside_and_told(tmp_path, kpf):
    (tmp_path / "journal.db").write_bytes(b"no journal" * 1000)
    desk = Desk(tmp_path, kpf)
    assert desk.log.events() == ["journal_moved_aside"]
    assert desk.diary.counts()["published"] == 0
    desk.diary.close()


def test_what_is_owed_is_bounded(desk):
    desk.path.unlink()
    for frame in range(6000):
        publish(desk.diary, frame)
    assert len(desk.diary._owed) == desk.diary._owed.maxlen
    assert desk.diary._owed.maxlen >= 4 * 1000
