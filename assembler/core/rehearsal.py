"""A rehearsal: the script by which a recorded night is played again, with or without trouble, and what must come of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from assembler.core import writers
from assembler.core.candidates import Candidate, by_trust, shared_time
from assembler.core.writers import Chance, Step, Writing

Kind = Literal["late", "too-late", "never", "again-same", "again-other", "truncated", "dies", "slow", "filled", "stray"]
State = Literal["published", "partial", "superseded", "orphan", "failed"]

TROUBLES: Mapping[Kind, str] = {
    "late": "a sub-FITS comes late, before its deadline",
    "too-late": "a sub-FITS comes after its deadline",
    "never": "a sub-FITS never comes",
    "again-same": "a sub-FITS is written a second time, with the same content",
    "again-other": "a sub-FITS is written a second time, with other content, when the L0 is there",
    "truncated": "a sub-FITS is closed, or renamed into place, before it is whole",
    "dies": "a writer dies half-way",
    "slow": "a writer is slow, and makes it before the deadline",
    "filled": "a sub-FITS has its length from the beginning, as zeros, and is filled",
    "stray": "of all sub-FITS only one comes, and none that tells the frame",
}
"""What may befall an exposure; it is one thing for each."""

_ROOM = 3
"""Bytes that it takes for a cut between what tells the exposure and the end."""

_LOSING = frozenset({"too-late", "never", "truncated", "dies"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One sub-FITS of the night that is played.

    Attributes
    ----------
    origin, path : str
        The path is below the night's directory.
    frame : int or None
        Its frame number; None where it has none, or its origin counts its own.
    begin, end : int or None
        As it tells them [ns].
    size : int
        [bytes]
    by_time : bool
        Whether its time tells its exposure, not its frame.
    reason : str
        Why it cannot be used as it was recorded, one of `assembler.core.exposure.REASONS`; empty when it can.
    telling : int
        How many of its first bytes it takes to tell its exposure [bytes]; 0 where its name does.
    changeable : int or None
        The place of a byte of its data that may be another one; None when there is none.
    """

    origin: str
    path: str
    frame: int | None
    begin: int | None
    end: int | None
    size: int
    by_time: bool = False
    reason: str = ""
    telling: int = 0
    changeable: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What befalls an exposure, and the path of the sub-FITS that it is about."""

    kind: Kind
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What a watcher must have made of an exposure, or of a sub-FITS that belongs to none, when all is done.

    Attributes
    ----------
    state : str
        ``published``: one version, with everything. ``partial``: one version; ``missing`` tells what it lacks. ``superseded``:
        a second version, the first without what is in ``late``; a third only where several are late on their own.
        ``failed``: seen, and nothing that an L0 could be made of. ``orphan``: a sub-FITS that belongs to no exposure; there is no
        L0 of it.
    frame : int or None
        None of an orphan.
    files : mapping of str to str
        By origin, the path of each sub-FITS that is in the newest version; of an orphan, its own.
    missing : mapping of str to str
        By origin, why the newest version lacks it, one of `assembler.core.exposure.REASONS`; of an orphan, why it cannot be used.
    late : mapping of str to str
        By origin, why the version that was superseded lacked it; ``changed`` when it had it with other content.
    trouble : str
        What befell it; empty when nothing did.
    origin : str
        Whom the trouble was about.
    """

    state: State
    frame: int | None
    files: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    late: Mapping[str, str] = field(default_factory=dict)
    trouble: str = ""
    origin: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """Who writes what when, and what must come of it.

    Attributes
    ----------
    start : int
        The instant of the recorded night at which the script starts [ns].
    steps : tuple of Step
        In the order of time; of the same time, in this order.
    expectations : tuple of Expectation
        In the order of frames, then the orphans.
    """

    start: int
    steps: tuple[Step, ...]
    expectations: tuple[Expectation, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shot:
    """The recordings of one exposure, and when it was [ns]; those in ``own`` belong to no other, and nothing could replace them."""

    frame: int
    begin: int
    end: int
    recordings: tuple[Recording, ...]
    own: tuple[Recording, ...]


def write_script(
    recordings: Sequence[Recording],
    chance: Chance,
    *,
    deadlines: Mapping[str, int],
    trust: Sequence[str] = (),
    trouble: float = 0.0,
    awaited: Mapping[int, frozenset[str]] | None = None,
) -> Script:
    """Write the script for a recorded night; the same arguments and the same chance give the same.

    Untroubled sub-FITS come in any order within the first half of their deadline, some growing under their own name, some renamed
    into place. What has to be in time is whole after 0.75 of it, what has to be late begins after twice the longest, so that a
    watcher may count from the exposure's end as well as from the first sub-FITS.

    Parameters
    ----------
    recordings : sequence of Recording
    chance : Chance
        A `random.Random` with a seed.
    deadlines : mapping of str to int
        By origin, how long after the exposure's end a watcher waits for it [ns].
    trust : sequence of str
        Whose times are trusted, as the instrument has it.
    trouble : float
        For what share of the exposures there is trouble, from 0 to 1. Those that cannot have any have none.
    awaited : mapping of int to frozenset of str, optional
        By frame, the origins that a watcher waits for even where the recorded night has no sub-FITS of theirs.

    >>> import random
    >>> night = [Recording(origin=o, path=f"{o}/7.fits", frame=7, begin=0, end=30, size=5000) for o in ("green", "red")]
    >>> deadlines = {"green": 60, "red": 60, "guide": 60}
    >>> script = write_script(night, random.Random(1), deadlines=deadlines, awaited={7: frozenset({"guide"})})
    >>> script.expectations[0].state, dict(script.expectations[0].missing)
    ('partial', {'guide': 'absent'})
    """
    shots, loose = _gather(recordings, trust)
    start = min((shot.begin for shot in shots), default=min((r.begin for r in loose if r.begin is not None), default=0))
    troubles = _choose_troubles(shots, chance, trouble)
    written: dict[str, Writing] = {}
    again: list[Step] = []
    for shot in shots:
        longest = max(deadlines[r.origin] for r in shot.recordings)
        for recording in shot.recordings:
            if recording.path in written:
                continue  # it belongs to an earlier exposure as well
            done = max(shot.end, recording.end or 0) - start
            found = troubles.get(shot.frame)
            if found and (found.path == recording.path or found.kind == "stray"):
                first, more = _write_troubled(recording, found, chance, done, deadlines[recording.origin], longest)
                written[recording.path] = first
                again += more.steps
            else:
                written[recording.path] = _write_usually(recording, chance, done, deadlines[recording.origin])
    for recording in loose:
        written[recording.path] = _write_usually(recording, chance, max(0, (recording.end or start) - start), deadlines[recording.origin])
    steps = sorted([step for writing in written.values() for step in writing.steps] + again, key=lambda step: step.at)
    told = [_expect(shot, written, deadlines, troubles.get(shot.frame), (awaited or {}).get(shot.frame, frozenset())) for shot in shots]
    orphans = [
        Expectation(state="orphan", frame=None, files={r.origin: r.path}, missing={r.origin: r.reason} if r.reason else {}) for r in loose
    ]
    expectations = sorted([*told, *orphans], key=lambda e: (e.frame is None, e.frame or 0))
    return Script(start=start, steps=tuple(steps), expectations=tuple(expectations))


def _gather(recordings: Sequence[Recording], trust: Sequence[str]) -> tuple[list[_Shot], list[Recording]]:
    """Return the exposures in the order of their frames, and the recordings that belong to none."""
    frames: dict[int, dict[str, Recording]] = {}
    loose: list[Recording] = []
    timed: dict[str, list[Recording]] = {}
    for recording in sorted(recordings, key=lambda r: r.path):
        if recording.by_time:
            timed.setdefault(recording.origin, []).append(recording)
        elif recording.frame is None or recording.origin in frames.setdefault(recording.frame, {}):
            loose.append(recording)
        else:
            frames[recording.frame][recording.origin] = recording
    bare = [(frame, list(frames[frame].values())) for frame in sorted(frames)]
    spans = _spans([files for _, files in bare], trust)
    fitting = [{origin: _fitting(files, span) for origin, files in timed.items()} for span in spans]
    taken = [files[0].path for each in fitting for files in each.values() if files]
    shots = []
    for (frame, files), span, by_origin in zip(bare, spans, fitting, strict=True):
        matched = [fit[0] for fit in by_origin.values() if fit]
        own = [*files, *(fit[0] for fit in by_origin.values() if len(fit) == 1 and taken.count(fit[0].path) == 1)]
        shots.append(_Shot(frame=frame, begin=span[0], end=span[1], recordings=(*files, *matched), own=tuple(own)))
    unclaimed = set(taken)
    return shots, loose + [r for files in timed.values() for r in files if r.path not in unclaimed]


def _spans(exposures: Sequence[Sequence[Recording]], trust: Sequence[str]) -> list[tuple[int, int]]:
    """Return begin and end [ns] of exposures; one that tells none comes right after the one before."""
    told: list[tuple[int, int] | None] = []
    for files in exposures:
        trusted = by_trust(trust, [Candidate(source=r.origin, origin=r.origin, begin=r.begin, end=r.end) for r in files if not r.reason])
        if trusted is None or trusted.begin is None:
            told.append(None)
        else:
            told.append((trusted.begin, max(trusted.begin, trusted.end or 0)))
    spans = []
    before = min((span[0] for span in told if span), default=0)
    for span in told:
        spans.append(span or (before, before))
        before = spans[-1][1]
    return spans


def _fitting(files: Sequence[Recording], span: tuple[int, int]) -> list[Recording]:
    """Return the recordings that may belong to an exposure by their time, the best first."""
    fits = [
        (shared, recording)
        for recording in files
        if recording.begin is not None
        and recording.end is not None
        and (shared := shared_time(span, (recording.begin, recording.end))) is not None
    ]
    return [recording for _, recording in sorted(fits, key=lambda fit: -fit[0])]


def _choose_troubles(shots: Sequence[_Shot], chance: Chance, share: float) -> dict[int, Trouble]:
    """Return by frame what befalls an exposure; one kind after the other, in an order of chance, so that none is left out."""
    sound = [shot for shot in shots if not any(r.reason for r in shot.recordings)]
    drawn = sorted(sound, key=lambda _: chance.random())
    kinds = sorted(TROUBLES, key=lambda _: chance.random())
    wanted, troubles = round(share * len(shots)), dict[int, Trouble]()
    for shot in drawn:
        if len(troubles) == wanted:
            break
        for kind in kinds:
            able = _able(shot, kind)
            if able:
                troubles[shot.frame] = Trouble(kind=kind, path=able[chance.randrange(0, len(able))].path)
                kinds.remove(kind)
                kinds.append(kind)
                break
    return troubles


def _able(shot: _Shot, kind: Kind) -> list[Recording]:
    """Return the recordings of an exposure that a trouble may befall; something that tells the frame has to be left."""
    framed = sum(not r.by_time for r in shot.recordings)
    if kind == "stray":
        matched = [r for r in shot.recordings if r.by_time]
        return matched if len(matched) == 1 and matched[0] in shot.own else []
    if kind in _LOSING:
        cut = kind in ("truncated", "dies")
        return [r for r in shot.own if framed > (not r.by_time) and not (cut and r.telling + _ROOM > r.size)]
    return [r for r in shot.own if kind != "again-other" or r.changeable is not None]


def _write_usually(recording: Recording, chance: Chance, done: int, deadline: int) -> Writing:
    return _write(recording, chance, _usual(chance, done, deadline))


def _write_troubled(
    recording: Recording, trouble: Trouble, chance: Chance, done: int, deadline: int, longest: int
) -> tuple[Writing, Writing]:
    """Return how a recording is written, and written again."""
    kind = trouble.kind
    if kind == "never" or (kind == "stray" and trouble.path != recording.path):
        return writers.NOTHING, writers.NOTHING
    usual = _usual(chance, done, deadline)
    late = done + _part(chance, deadline, 0.5, 0.6)
    afterwards = done + _part(chance, longest, 2.0, 2.5)
    spans = {
        "late": (late, late + _part(chance, deadline, 0.05, 0.1)),
        "too-late": (afterwards, afterwards + _part(chance, deadline, 0.05, 0.2)),
        "slow": (usual[0], done + _part(chance, deadline, 0.6, 0.75)),
    }
    span = spans.get(kind, usual)
    if kind == "filled":
        first = writers.write_filling(recording.path, recording.size, chance, span)
    else:
        first = _write(recording, chance, span, chunks=30 if kind == "slow" else 6, whole=kind != "truncated")
    if kind == "dies":
        first = writers.die(first, chance, begun=recording.telling > 0)
    if kind == "again-same":
        soon = done + _part(chance, deadline, 0.5, 0.55)
        return first, writers.write_again(first, soon if chance.random() < 0.5 else afterwards)
    if kind == "again-other":
        return first, writers.write_again(first, afterwards, recording.changeable)
    return first, writers.NOTHING


def _write(recording: Recording, chance: Chance, span: tuple[int, int], *, chunks: int = 6, whole: bool = True) -> Writing:
    way = writers.write_growing if chance.random() < 0.5 else writers.write_hidden
    return way(recording.path, recording.size, chance, span, chunks=chunks, whole=whole, least=recording.telling)


def _usual(chance: Chance, done: int, deadline: int) -> tuple[int, int]:
    begin = done + _part(chance, deadline, 0.05, 0.25)
    return begin, begin + _part(chance, deadline, 0.05, 0.2)


def _part(chance: Chance, deadline: int, least: float, most: float) -> int:
    return int(deadline * (least + (most - least) * chance.random()))


def _expect(
    shot: _Shot, written: Mapping[str, Writing], deadlines: Mapping[str, int], trouble: Trouble | None, awaited: frozenset[str]
) -> Expectation:
    """Return what comes of an exposure, from what its writers do: when something appears, and when it is whole."""
    about = next((r.origin for r in shot.recordings if trouble and trouble.path == r.path), "")
    kind = trouble.kind if trouble else ""
    if kind == "stray" and trouble:
        return Expectation(state="orphan", frame=None, files={about: trouble.path}, trouble=kind, origin=about)
    missing = dict.fromkeys(sorted(awaited - {r.origin for r in shot.recordings}), "absent")
    usable = {r.origin: at for r in shot.recordings if not r.reason and (at := written[r.path].whole) is not None}
    first = min((at for r in shot.recordings if (at := written[r.path].appears) is not None), default=0)
    limits = {origin: first + deadlines[origin] for origin in {*missing, *(r.origin for r in shot.recordings)}}
    # The L0 is made when each is there or given up; what came after its own deadline while another one was waited for is in it.
    made = max(min(limit, usable.get(origin, limit)) for origin, limit in limits.items())
    made = max(made, min(usable.values(), default=made))
    files: dict[str, str] = {}
    late: dict[str, str] = {}
    for recording in shot.recordings:
        origin, writing = recording.origin, written[recording.path]
        if origin not in usable:
            missing[origin] = recording.reason or ("absent" if writing.appears is None else "truncated")
            continue
        files[origin] = recording.path
        if usable[origin] > made:
            late[origin] = "absent" if writing.appears is None or writing.appears > made else "still-growing"
    if kind == "again-other":
        late[about] = "changed"
    state: State = "failed" if not files else "superseded" if late else "partial" if missing else "published"
    return Expectation(state=state, frame=shot.frame, files=files, missing=missing, late=late, trouble=kind, origin=about)
