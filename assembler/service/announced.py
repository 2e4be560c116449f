"""Files that are announced: an origin's telemetry may tell the path of its newest sub-FITS before a scan would find it.

Like every early word it only saves time: of two broadcasts between two questions the first is never heard of, and the scan finds
both files. What was broadcast is data. It names a file in a directory that is watched anyway, or it is refused.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from assembler.core.instants import from_unix, is_unix_time, unix_seconds
from assembler.core.instrument import Instrument, Origin
from assembler.service.finder import fits_pattern
from assembler.telemetry.history import History

LONGEST = 1024
"""How long an announced path may be [characters]."""
_LONGEST_NAME = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """What was announced: by which origin, the text as it was broadcast, and when [ns]."""

    origin: Origin
    text: str
    time: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Why an announcement is of no use, in one line."""

    reason: str


class Announcements:
    """Asks what has been announced, and remembers what it has told."""

    def __init__(self, instrument: Instrument) -> None:
        self._origins = {o.announced: o for o in instrument.origins if o.announced}
        self._told: dict[str, tuple[float, str]] = {}

    def ask(self, history: History, now: int) -> tuple[Announced, ...]:
        """Return what was announced since the last call; the first time, the last announcement of each origin.

        Parameters
        ----------
        history : History
            Is asked one question, and none where no origin announces anything.
        now : int
            [ns]

        Raises
        ------
        TelemetryError
            When the history cannot be read; what is new stays so.
        """
        if not self._origins:
            return ()
        (samples,) = history.as_of(list(self._origins), [unix_seconds(now)])
        news = []
        for keyword, origin in self._origins.items():
            sample = samples.get(keyword)
            if sample is None or not is_unix_time(sample.time):
                continue
            told = (sample.time, sample.value[: LONGEST + 1])
            if self._told.get(keyword) != told:
                self._told[keyword] = told
                news.append(Announced(origin=origin, text=told[1], time=from_unix(sample.time)))
        return tuple(news)


def accept(text: str, places: Sequence[str], origin: Origin) -> str | Refused:
    """Return the path that an announcement is about: a name in a directory that is watched, or below one.

    An absolute path below one of the places is taken as it is. Any other is matched from its end, because the host of the camera may
    know the partition under another mount: the directories of the origin's pattern have to agree, and the night's directory above
    them; a relative path may have fewer, where that leaves only one place.

    The directory is looked at, to see where its links lead, which may block on a mount whose server is gone. The file is
    not: it need not be there yet, and is found by scanning its directory, never by its name, because over NFS a name that was
    missed once stays missing for half a minute. Where the name is itself a link, it is what the scan makes of it.

    Parameters
    ----------
    text : str
        As it was broadcast.
    places : sequence of str
        Absolute paths of the directories that are watched.
    origin : Origin
        Who announced it.
    """
    text = text.strip()
    shown = f"announced by {origin.name}, {text[:120]!a}"
    parts = [part for part in text.split("/") if part not in ("", ".")]
    found = _nonsense(text, parts) or _match(text, parts, places, origin)
    if isinstance(found, Refused):
        return Refused(reason=f"{shown}: {found.reason}")
    if not fits_pattern(origin, found):
        return Refused(reason=f"{shown}: is not as its sub-FITS are, {origin.files}")
    directory = os.path.dirname(found)
    try:
        real = os.path.realpath(directory, strict=True)
        inside = any(_is_below(real, os.path.realpath(p)) for p in sorted(places, key=lambda p: not _is_below(directory, p)))
    except (OSError, ValueError) as error:
        told = error.strerror if isinstance(error, OSError) else "no name that this system can have"
        return Refused(reason=f"{shown}: {directory!a}: {told}")
    return found if inside else Refused(reason=f"{shown}: {directory!a} leads to {real!a}, which is not watched")


def _nonsense(text: str, parts: Sequence[str]) -> Refused | None:
    """Refuse what no path of a sub-FITS has."""
    name = parts[-1] if parts else ""
    found = {
        f"is longer than {LONGEST} characters": len(text) > LONGEST,
        # NUL, line ends, halves of surrogate pairs, and what turns the direction of text
        "has characters that cannot be printed": not text.isprintable(),
        "names no file": not name or text.endswith(("/", "/.")),
        "goes up with '..'": ".." in parts,
        "is hidden": any(part.startswith(".") for part in parts),
        f"has a name of more than {_LONGEST_NAME} bytes": len(name.encode(errors="replace")) > _LONGEST_NAME,
    }
    return next((Refused(reason=reason) for reason, is_so in found.items() if is_so), None)


def _match(text: str, parts: Sequence[str], places: Sequence[str], origin: Origin) -> str | Refused:
    """Return the path in one of the places, or below it, that is meant."""
    told, depths = list(parts[:-1]), {place: _parts(place) for place in places}
    if text.startswith("/"):
        above = [place for place in places if told[: len(depths[place])] == depths[place]]
        if above:
            place = max(above, key=lambda p: len(depths[p]))
            return os.path.join(place, *parts[len(depths[place]) :])
    folder = _parts(origin.files)[:-1]
    needed = len(folder) + 1  # the night's directory too
    if not text.startswith("/"):
        needed = min(needed, len(told))
    agreeing = {p: _agreement(depths[p], told) for p in places if depths[p][len(depths[p]) - len(folder) :] == folder}
    best = max(agreeing.values(), default=-1)
    fitting = [p for p, agreement in agreeing.items() if agreement == best >= needed]
    if not fitting:
        return Refused(reason="is in no directory that is watched")
    if len(fitting) > 1:
        return Refused(reason=f"may be in {fitting[0]!a} or {fitting[1]!a}")
    return os.path.join(fitting[0], parts[-1])


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _agreement(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many directories two paths end with alike.

    >>> _agreement(["net", "kpf", "2024apr21", "Green"], ["s", "kpf1", "2024apr21", "Green"])
    2
    """
    count = 0
    for mine, theirs in zip(reversed(one), reversed(other), strict=False):
        if mine != theirs:
            break
        count += 1
    return count


def _is_below(path: str, place: str) -> bool:
    return path == place or path.startswith(place.rstrip("/") + "/")
