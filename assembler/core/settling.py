"""When a sub-FITS is settled: its bytes say that it is whole, and it stays as it is.

A file's bytes are not enough: a writer on another host may go on, and what it wrote may not all have arrived. A file that holds
still is not enough either: space may be reserved before there is anything in it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

Verdict = Literal["complete", "trailing", "growing", "preallocated", "unreadable", "absent"]
"""What the bytes say: every HDU is there, and nothing else; every HDU is there, and more after them; it ends too early; there are
zeros where a header should be; it is no FITS, or cannot be read; there is no such file."""

State = Literal["waiting", "settled", "stalled", "late"]
"""Look again; it is whole and stays so; nothing has happened to it for long; the deadline passed while it was being written."""

Signature = tuple[int, int, int]

_OPENS = 3
_REASONS = {"growing": "truncated", "preallocated": "truncated", "absent": "absent"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one look at a file told.

    Attributes
    ----------
    instant : int
        When it was opened [ns], by the clock of the file server.
    signature : tuple of int or None
        Size [bytes], modification time [ns] and inode; None when it could not be opened.
    verdict : str
        One of `Verdict`.
    """

    instant: int
    signature: Signature | None
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How long is waited for a file.

    Attributes
    ----------
    settling : int
        How long a whole file has to stay as it is [ns]. 0: it is whole at once, because its writer renames it into place, or was
        seen to close it.
    stall : int
        After how long without any change a file that is not whole counts as given up by its writer [ns].
    deadline : int or None
        When nobody waits for it any more [ns], whatever happens to it; None: never.
    pace : int
        Time between looks at a file that is not whole [ns].
    """

    settling: int
    stall: int
    deadline: int | None = None
    pace: int = 100_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What matters of all looks at a file so far, however many they were.

    Attributes
    ----------
    last : Look or None
    since : int
        When it was first seen as it is now [ns].
    opens : int
        How many looks found it so since then. 0: the clock had just been set back, so that the last look's instant is doubtful.
    idle : int
        Time without a change of its signature [ns]; where the clock was set back, no time passed.
    """

    last: Look | None = None
    since: int = 0
    opens: int = 0
    idle: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do about a file.

    Attributes
    ----------
    state : str
        One of `State`. Only "waiting" is provisional; but a file that stalled or was late may be looked at all the same, and be
        settled later.
    next_look : int or None
        When to look again [ns]; None unless it is waiting.
    reason : str
        Why its origin has to be left out, one of `assembler.core.exposure.REASONS`; empty while it is waiting, and when it
        is settled.
    """

    state: State
    next_look: int | None = None
    reason: str = ""


def reason_of(verdict: Verdict) -> str:
    """Return why an origin has to be left out whose file is not whole, one of `assembler.core.exposure.REASONS`.

    >>> reason_of("growing"), reason_of("unreadable")
    ('truncated', 'unreadable')
    """
    return _REASONS.get(verdict, "unreadable")


def judge(looks: Iterable[Look], rules: Rules) -> Decision:
    """Decide from all looks at a file, in the order in which they were made.

    >>> looks = [Look(instant=t, signature=(2880, 7, 1), verdict="complete") for t in (0, 20, 30)]
    >>> judge(looks, Rules(settling=30, stall=100)).state
    'settled'
    >>> judge(looks[:2], Rules(settling=30, stall=100))
    Decision(state='waiting', next_look=30, reason='')
    """
    course = Course()
    for look in looks:
        course = follow(course, look)
    return decide(course, rules)


def follow(course: Course, look: Look) -> Course:
    """Add a look.

    A look that is told twice counts once. One that is earlier than the one before it, because the clock was set back or they
    came in the wrong order, proves nothing: the time in which the file stays as it is begins with the look after it.

    >>> follow(Course(), Look(instant=5, signature=(2880, 7, 1), verdict="growing")).opens
    1
    """
    last = course.last
    if look == last:
        return course
    if last is None:
        return Course(last=look, since=look.instant, opens=1)
    step = look.instant - last.instant
    idle = course.idle + max(0, step) if look.signature == last.signature else 0
    if step < 0:
        return Course(last=look, since=look.instant, opens=0, idle=idle)
    if course.opens == 0 or (look.signature, look.verdict) != (last.signature, last.verdict):
        return Course(last=look, since=look.instant, opens=1, idle=idle)
    return replace(course, last=look, opens=course.opens + 1, idle=idle)


def decide(course: Course, rules: Rules) -> Decision:
    """Decide whether a file is settled, when to look again, or that it will not be.

    It is settled when it is whole, and was found the same at three looks at least, the first and the last of which are the
    settling time apart. A deadline tells a writer that died from one that is slow by whether the file changed within ``stall``.

    >>> decide(Course(), Rules(settling=30, stall=100))
    Decision(state='waiting', next_look=0, reason='')
    """
    last = course.last
    if last is None:
        return Decision(state="waiting", next_look=0)
    whole = last.verdict in ("complete", "trailing")
    same = last.instant - course.since
    if whole and (not rules.settling or (course.opens >= _OPENS and same >= rules.settling)):
        return Decision(state="settled")
    if not whole and course.idle >= rules.stall:
        return Decision(state="stalled", reason=reason_of(last.verdict))
    if rules.deadline is not None and last.instant >= rules.deadline:
        return Decision(state="late", reason="absent" if last.verdict == "absent" else "still-growing")
    if not whole or not course.opens:
        wanted = min(last.instant + rules.pace, last.instant + rules.stall - course.idle)
    elif course.opens == 1:
        wanted = course.since + rules.settling // 2
    else:
        wanted = course.since + rules.settling
    if rules.deadline is not None:
        wanted = min(wanted, rules.deadline)
    return Decision(state="waiting", next_look=max(wanted, last.instant + 1))
