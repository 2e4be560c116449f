"""The states that an exposure goes through, which step is lawful, and when something that failed is tried again."""

from collections.abc import Mapping
from typing import Literal, get_args

from assembler.core.instants import SECOND
from assembler.errors import AssemblerError, InputError

State = Literal["seen", "waiting", "ready", "assembling", "verified", "published", "failed", "superseded"]
STATES: tuple[State, ...] = get_args(State)

OPEN: frozenset[State] = frozenset({"seen", "waiting", "ready", "assembling", "verified"})
"""States of exposures that are not done; a start goes on with them."""

FINAL: frozenset[State] = frozenset({"published", "failed", "superseded"})
"""States that last, unless a retry is due, another sub-FITS arrives, or somebody asks for it."""

FIRST: frozenset[State] = frozenset({"seen", "published"})
"""How an exposure begins: with a sub-FITS, or, where the journal is made anew, with its L0."""

STEPS: Mapping[State, frozenset[State]] = {
    "seen": frozenset({"seen", "waiting", "ready", "failed", "superseded"}),
    "waiting": frozenset({"waiting", "ready", "failed", "superseded"}),
    "ready": frozenset({"ready", "waiting", "assembling", "failed", "superseded"}),
    "assembling": frozenset({"verified", "published", "ready", "waiting", "failed"}),
    "verified": frozenset({"published", "ready", "failed"}),
    "published": frozenset({"waiting", "ready", "superseded"}),
    "failed": frozenset({"waiting", "ready", "superseded"}),
    "superseded": frozenset({"waiting", "ready"}),
}
"""By state, what may follow. A state that may follow itself is one in which more becomes known, as when an origin arrives."""

FIRST_PAUSE = 2 * SECOND
LONGEST_PAUSE = 300 * SECOND
"""The shortest and the longest time [ns] between two attempts."""

MOST_ATTEMPTS_AT_INPUT = 10
"""How often a sub-FITS that keeps changing is tried; disks and servers are tried for as long as it takes."""


def is_lawful(before: State | None, after: State) -> bool:
    """Tell whether an exposure may go from one state to another; before its first state there is None.

    >>> is_lawful("verified", "published"), is_lawful("seen", "published"), is_lawful(None, "seen")
    (True, False, True)
    """
    return after in (FIRST if before is None else STEPS[before])


def check_step(before: State | None, after: str) -> State:
    """Return the state that follows.

    Raises
    ------
    ValueError
        When it is none, or may not follow.

    >>> check_step("assembling", "verified")
    'verified'
    """
    state = read_state(after)
    if not is_lawful(before, state):
        raise ValueError(f"an exposure that is {before or 'not known'} cannot become {after}")
    return state


def read_state(text: str) -> State:
    """Return the state of a name.

    Raises
    ------
    ValueError
        When there is none.

    >>> read_state("ready")
    'ready'
    """
    if text not in STATES:
        raise ValueError(f"{text!r} is no state of an exposure")
    return text


def resumed(state: State) -> State:
    """Return the state in which a start finds an exposure again: what was being made is made anew.

    The pipeline leaves an L0 alone that is there already, so what had been published is not published twice.

    >>> resumed("verified"), resumed("waiting")
    ('ready', 'waiting')
    """
    return "ready" if state in ("assembling", "verified") else state


def attempts_after(before: State | None, after: State, attempts: int) -> int:
    """Return how often an exposure was begun to be assembled since it was last done, or since there was something new.

    An attempt counts when it begins, so that one which takes the whole process with it is counted, too.

    >>> attempts_after("ready", "assembling", 1), attempts_after("failed", "ready", 2), attempts_after("failed", "waiting", 2)
    (2, 2, 0)
    """
    if after == "assembling":
        return attempts + 1
    if after == "published" or (before in FINAL and after == "waiting"):
        return 0
    return attempts


def next_attempt(error: AssemblerError, attempts: int, now: int, random: float) -> int | None:
    """Return the instant [ns] to try again at, or None when that is of no use.

    The pause doubles with each attempt up to `LONGEST_PAUSE`. Chance takes up to a third off it, so that exposures that failed
    together do not come back together.

    Parameters
    ----------
    error : AssemblerError
        What happened; its ``retry`` tells whether another attempt may help.
    attempts : int
        How many there were.
    now : int
        [ns]
    random : float
        At least 0, less than 1.

    >>> from assembler.errors import ConfigurationError, OutputError
    >>> next_attempt(OutputError("disk full"), 1, 0, 0.0) == FIRST_PAUSE
    True
    >>> next_attempt(ConfigurationError("no such origin"), 1, 0, 0.0) is None
    True
    """
    if not error.retry or (isinstance(error, InputError) and attempts >= MOST_ATTEMPTS_AT_INPUT):
        return None
    doublings = min(max(attempts, 1) - 1, 62)
    pause = min(FIRST_PAUSE << doublings, LONGEST_PAUSE)
    return now + pause - int(pause * random / 3)
