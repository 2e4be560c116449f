"""Announcements: who is told that an L0 is there, what a message says, how it is known again, and when to try again."""

import hashlib
import json
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal
from urllib.parse import urlsplit

from assembler.core.instants import DAY, format_iso
from assembler.core.states import FIRST_PAUSE, LONGEST_PAUSE

Event = Literal["published", "archived"]
EVENTS: tuple[Event, ...] = ("published", "archived")

KEPT = 90 * DAY
"""For how long what everybody has received is remembered [ns], so that it is not put again."""

SEVERITIES = ("error", "warning", "info")


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """Something that is told to a receiver, and to nobody else.

    Attributes
    ----------
    value : str
        What it is, where the YAML says it outright.
    environment, file : str
        The environment variable, or the file, that has it; empty for neither.
    """

    value: str = field(default="", repr=False)
    environment: str = ""
    file: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToFile:
    """A line of JSON is added to a file."""

    path: str

    @property
    def shown(self) -> str:
        """What it is called in messages."""
        return self.path


@dataclass(frozen=True, slots=True, kw_only=True)
class ToWebhook:
    """The message is sent by POST; each header is a name and a value."""

    url: str = field(repr=False)
    headers: tuple[tuple[str, Secret], ...] = ()

    @property
    def shown(self) -> str:
        """What it is called in messages: the server, since the rest of a URL may be a secret."""
        return server_of(self.url)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToCommand:
    """A program is run, and has the message on its standard input; no shell is between."""

    words: tuple[str, ...]

    @property
    def shown(self) -> str:
        """What it is called in messages: the program, since its arguments may be secrets."""
        return self.words[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToBroker:
    """The message goes to a queue of a message broker, or to an exchange with a routing key."""

    url: str = field(repr=False)
    password: Secret | None = None
    queue: str = ""
    exchange: str = ""
    routing_key: str = ""

    @property
    def shown(self) -> str:
        """What it is called in messages, never with a password."""
        return server_of(self.url)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """Somebody who is told.

    Attributes
    ----------
    name : str
    way : ToFile, ToWebhook, ToCommand or ToBroker
    events : frozenset of str
        What it wants to be told of.
    timeout : float
        How long it may take for one message [s].
    """

    name: str
    way: ToFile | ToWebhook | ToCommand | ToBroker
    events: frozenset[Event] = frozenset(EVENTS)
    timeout: float = 10.0

    @property
    def shown(self) -> str:
        """What it is called in messages."""
        return f"{self.name} ({self.way.shown})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What is put into the queue: which file of which L0 is there; all else is read in the L0 itself before it is sent.

    Attributes
    ----------
    event : str
    path : str
        The final path of the L0, absolute.
    version : int
        Its L0VER.
    written : str
        Its DATE, as it stands there.
    instrument : str
    replaced : str
        Where the L0 is kept that it replaced, as far as is known.
    url : str
        Of what was archived, where it is now.
    """

    event: Event
    path: str
    version: int
    written: str
    instrument: str
    replaced: str = ""
    url: str = ""

    @property
    def id(self) -> str:
        """What the message is known by: the same for the same file, whoever puts it, and whenever.

        DATE is in it, so that an L0 that was removed and made anew, whose checksum is another, is told of again.

        >>> Notice(event="published", path="/l0/a.fits", version=1, written="2024-04-22T08:11:30.500", instrument="KPF").id
        '4502e491-752f-8745-8290-201afd64d98d'
        """
        text = "\0".join((self.event, self.url or self.path, str(self.version), self.written))
        digest = bytearray(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16])
        digest[6] = digest[6] & 0x0F | 0x80  # RFC 9562: version 8, whose bits are the maker's business
        digest[8] = digest[8] & 0x3F | 0x80
        return str(uuid.UUID(bytes=bytes(digest)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """The L0 that another one replaced: where it is kept (empty where that is not known), its version, and the SHA-256 of its file."""

    path: str
    version: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What an L0 tells for the message of it.

    Attributes
    ----------
    path : str
        Where that version is now.
    size : int
        [bytes]
    sha256 : str
        Of the whole file.
    origins : tuple of str
        Those in it.
    codes : sequence of (str, str)
        Severity and code of each finding.
    frame : int or None
    begin : str or None
        Its DATE-BEG.
    supersedes : Earlier or None
    """

    path: str
    size: int
    sha256: str
    origins: tuple[str, ...]
    codes: Sequence[tuple[str, str]]
    frame: int | None
    begin: str | None
    supersedes: Earlier | None


def message(notice: Notice, account: Account, put: int) -> str:
    """Return the message as one line of JSON; docs/announcing.md describes every name.

    Parameters
    ----------
    notice : Notice
    account : Account
        For something that was archived, ``size`` and ``sha256`` are those of the file where it is now.
    put : int
        When it was put into the queue [ns].
    """
    earlier = account.supersedes
    told = {
        "id": notice.id,
        "event": notice.event,
        "path": account.path if notice.event == "published" else None,
        "url": notice.url or None,
        "name": notice.path.rpartition("/")[2],
        "size": account.size,
        "checksum": f"sha256:{account.sha256}",
        "version": notice.version,
        "supersedes": earlier and {"path": earlier.path or None, "version": earlier.version, "checksum": f"sha256:{earlier.sha256}"},
        "origins": list(account.origins),
        "findings": findings_counts(account.codes),
        "instrument": notice.instrument,
        "frame": account.frame,
        "date_beg": account.begin,
        "date": notice.written,
        "time": f"{format_iso(put // 10**6 * 10**6, digits=3)}Z",
    }
    return json.dumps(told, ensure_ascii=True, separators=(",", ":"))


def findings_counts(codes: Sequence[tuple[str, str]]) -> dict[str, int | dict[str, int]]:
    """Count findings by severity and by code.

    >>> findings_counts([("warning", "stale"), ("info", "compressed"), ("warning", "stale")])
    {'error': 0, 'warning': 2, 'info': 1, 'codes': {'compressed': 1, 'stale': 2}}
    """
    by_code: dict[str, int] = {}
    for _, code in sorted(codes, key=lambda pair: pair[1]):
        by_code[code] = by_code.get(code, 0) + 1
    return {**{severity: sum(s == severity for s, _ in codes) for severity in SEVERITIES}, "codes": by_code}


def pause_after(attempts: int, chance: float, *, refused: bool = False) -> int:
    """Return how long to wait [ns] after so many attempts that failed.

    It doubles with each, up to five minutes, less up to a third by chance. One that was refused for good is tried again only as
    rarely as that, for the receiver may be mended.

    >>> [pause_after(attempts, 0.0) // 10**9 for attempts in (1, 2, 99)], pause_after(1, 0.0, refused=True) // 10**9
    ([2, 4, 300], 300)
    """
    pause = LONGEST_PAUSE if refused else min(FIRST_PAUSE << min(max(attempts, 1) - 1, 62), LONGEST_PAUSE)
    return pause - int(pause * chance / 3)


def server_of(url: str) -> str:
    """Return scheme, host and port of a URL, without anything that may be a secret.

    >>> server_of("amqp://kpf:secret@broker:5672/%2f"), server_of("https://hooks.example.org/T0/secret?token=secret")
    ('amqp://broker:5672', 'https://hooks.example.org')
    """
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "a URL that is none"
    return f"{parts.scheme}://{parts.hostname or ''}{port}"


def redacted(text: str, secrets: Sequence[str]) -> str:
    """Return text without any of the secrets.

    >>> redacted("no such user: Bearer 1234", ["Bearer 1234", ""])
    'no such user: ***'
    """
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


_REPLACES = re.compile(r"Version (\d{1,6}) replaces version (\d{1,6}), written .*")
_SHA256 = re.compile(r"SHA-256 ([0-9a-f]{64})")


def earlier_version(history: Sequence[str], version: int) -> tuple[int, str] | None:
    """Return which version an L0 replaced, and the SHA-256 of that, as the HISTORY of its primary tells; None for a first one.

    >>> earlier_version(["Version 2 replaces version 1, written 2024-04-22T08:11:30.500", "SHA-256 " + "0" * 64], 2)[0]
    1
    """
    for line, following in pairwise(history):
        told, digest = _REPLACES.fullmatch(line.rstrip()), _SHA256.fullmatch(following.rstrip())
        if told and digest and int(told.group(1)) == version:
            return int(told.group(2)), digest.group(1)
    return None
