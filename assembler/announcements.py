"""The YAML of who is told of L0s: announce.yaml; an error names file, line, place and what was expected."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, Field

from assembler.config import yaml_text
from assembler.core.announcements import EVENTS, Receiver, Secret, ToBroker, ToCommand, ToFile, ToWebhook
from assembler.core.instants import SECOND, parse_duration
from assembler.problems import STRICT, checked, matching, refuse
from assembler.yaml import Place

MOST_RECEIVERS = 20
"""Each has a thread of its own."""

_WAYS = ("file", "webhook", "command", "broker")
_SECRET = frozenset({"webhook", "command", "broker", "headers", "password"})
"""What may have secrets in it, so that no error shows what stands there."""

_LONGEST_TIMEOUT = 600 * SECOND
_FIELD_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}"
"""A name of a header (RFC 9110, 5.6.2)."""

_OURS = ("content-type", "content-length", "host", "transfer-encoding", "connection", "user-agent")
"""Headers that are the sender's own business."""


def _timeout(text: str) -> str:
    if not 0 < parse_duration(text) <= _LONGEST_TIMEOUT:
        raise ValueError(f"expected more than 0 s, and up to {_LONGEST_TIMEOUT // SECOND} s")
    return text


class _Model(BaseModel):
    model_config = STRICT


class _Secret(_Model):
    env: Annotated[str, matching(r"[A-Za-z_][A-Za-z0-9_]*", "the name of an environment variable")] | None = None
    file: Annotated[str, matching(r"[^\0]+", "the path of a file")] | None = None


_Path = Annotated[str, matching(r"[^\0]+", "a path")]
_Word = Annotated[str, matching(r"[^\0]*", "text without NUL")]
_Name = Annotated[str, matching(r"[^\0-\x1f\x7f]{1,255}", "a name of up to 255 characters")]


class _Receiver(_Model):
    name: Annotated[str, matching(r"[A-Za-z0-9_.-]{1,60}", "a name of up to 60 letters, digits, _, . and -")]
    file: _Path | None = None
    webhook: str | None = None
    command: Annotated[list[_Word], Field(max_length=1000)] | None = None
    broker: str | None = None
    headers: dict[str, Any] | None = None
    password: _Secret | None = None
    queue: _Name | None = None
    exchange: _Name | None = None
    routing_key: Annotated[str, matching(r"[^\0-\x1f\x7f]{0,255}", "a routing key of up to 255 characters")] | None = None
    events: list[Literal["published", "archived"]] | None = None
    timeout: Annotated[str, AfterValidator(_timeout)] = "10 s"


class _Document(_Model):
    receivers: Annotated[list[_Receiver], Field(max_length=MOST_RECEIVERS)]


def load_announcements(path: Path) -> tuple[Receiver, ...]:
    """Read who is told, in the order of the file.

    Raises
    ------
    ConfigurationError
        In one line: file, line, place and what was expected there; or that it cannot be read.
    """
    return read_announcements(yaml_text(path), str(path))


def read_announcements(text: str, name: str) -> tuple[Receiver, ...]:
    """Read who is told from the text of a YAML file; its path is for the errors, and paths in it are relative to where it is.

    Raises
    ------
    ConfigurationError
        In one line: file, line, place and what was expected there.
    """
    model, lines = checked(text, name, _Document, secret=_SECRET)
    refuse(_contradictions(model), lines, name)
    return tuple(_receiver(receiver, os.path.dirname(os.path.abspath(name))) for receiver in model.receivers)


def _contradictions(model: _Document) -> Iterator[tuple[Place, str]]:
    """Yield what is right by itself and wrong together, with its place."""
    names: set[str] = set()
    for index, receiver in enumerate(model.receivers):
        at: Place = ("receivers", index)
        if receiver.name in names:
            yield (*at, "name"), f"another receiver is called {receiver.name}, too; expected a name of its own"
        names.add(receiver.name)
        ways = [way for way in _WAYS if getattr(receiver, way) is not None]
        if len(ways) != 1:
            yield at, f"expected one of {', '.join(_WAYS)}; found {' and '.join(ways) or 'none'}"
            continue
        if receiver.events is not None and not receiver.events:
            yield (*at, "events"), f"expected one of {', '.join(EVENTS)}, or both"
        yield from (((*at, *where), told) for where, told in _of_way(ways[0], receiver))


def _of_way(way: str, receiver: _Receiver) -> Iterator[tuple[Place, str]]:
    for key, wanted in (("headers", "webhook"), *((k, "broker") for k in ("password", "queue", "exchange", "routing_key"))):
        if getattr(receiver, key) is not None and way != wanted:
            yield (key,), f"goes with {wanted}, and this one has {way}"
    if receiver.password is not None and (receiver.password.env is None) == (receiver.password.file is None):
        yield ("password",), "expected env or file"
    if way == "webhook":
        yield from _of_url(("webhook",), receiver.webhook or "", ("http", "https"))
        if _has("username", receiver.webhook or ""):
            yield ("webhook",), "a user and a password do not stand in it; expected them in headers, as Authorization"
        for header, value in (receiver.headers or {}).items():
            if not re.fullmatch(_FIELD_NAME, header) or header.lower() in _OURS:
                yield ("headers", header), "expected the name of a header that is not the sender's own business"
            if not _is_header(value):
                yield ("headers", header), "expected printable ASCII as text, {env: VARIABLE} or {file: PATH}"
    if way == "command" and not (receiver.command and receiver.command[0]):
        yield ("command",), "expected the program and its arguments"
    if way == "broker":
        yield from _of_broker(receiver)


def _of_broker(receiver: _Receiver) -> Iterator[tuple[Place, str]]:
    url = receiver.broker or ""
    yield from _of_url(("broker",), url, ("amqp", "amqps", "redis", "rediss"))
    if "?" in url or "#" in url:
        yield ("broker",), "expected a URL without ? and #"
    if receiver.password is not None and _has("password", url):
        yield ("password",), "another one stands in the URL; expected one of the two"
    if (receiver.queue is None) == (receiver.exchange is None):
        yield (), "expected queue, or exchange and routing_key"
    elif receiver.queue is not None and receiver.routing_key is not None:
        yield ("routing_key",), "goes with exchange, and this one has queue"
    elif receiver.exchange is not None and url.startswith("redis"):
        yield ("exchange",), "Redis has none; expected queue"


def _of_url(where: Place, url: str, schemes: tuple[str, ...]) -> Iterator[tuple[Place, str]]:
    """Say what is wrong with a URL, without showing it."""
    try:
        parts = urlsplit(url)
        is_one = parts.scheme in schemes and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_one = False
    if not is_one or not re.fullmatch("[!-~]+", url) or (";" in url and "amqp" in schemes):
        yield where, f"expected {' or '.join(f'{scheme}://HOST...' for scheme in schemes)}, in printable ASCII without blanks"


def _has(part: Literal["username", "password"], url: str) -> bool:
    try:
        return getattr(urlsplit(url), part) is not None
    except ValueError:
        return False


def _is_header(value: Any) -> bool:
    """Tell whether a header may have a value, which is not shown, since it may be a secret."""
    if isinstance(value, str):
        return re.fullmatch(r"[ -~]{0,4000}", value) is not None
    if not isinstance(value, dict) or len(value) != 1:
        return False
    ((key, told),) = value.items()
    return isinstance(told, str) and re.fullmatch({"env": r"[A-Za-z_][A-Za-z0-9_]*", "file": r"[^\0]+"}.get(key, r"(?!)"), told) is not None


def _receiver(model: _Receiver, directory: str) -> Receiver:
    return Receiver(
        name=model.name,
        way=_way(model, directory),
        events=frozenset(model.events or EVENTS),
        timeout=parse_duration(model.timeout) / SECOND,
    )


def _way(model: _Receiver, directory: str) -> ToFile | ToWebhook | ToCommand | ToBroker:
    if model.file is not None:
        return ToFile(path=os.path.join(directory, model.file))
    if model.webhook is not None:
        return ToWebhook(url=model.webhook, headers=tuple((n, _secret(v, directory)) for n, v in (model.headers or {}).items()))
    if model.command is not None:
        program, *arguments = model.command
        return ToCommand(words=(os.path.join(directory, program) if "/" in program else program, *arguments))
    return ToBroker(
        url=model.broker or "",
        password=_secret(model.password, directory) if model.password else None,
        queue=model.queue or "",
        exchange=model.exchange or "",
        routing_key=model.routing_key or "",
    )


def _secret(value: Any, directory: str) -> Secret:
    if isinstance(value, str):
        return Secret(value=value)
    told: dict[str, str | None] = {"env": value.env, "file": value.file} if isinstance(value, _Secret) else value
    file = told.get("file")
    return Secret(environment=told.get("env") or "", file=os.path.join(directory, file) if file else "")
