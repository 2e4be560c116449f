"""Which store an URL names."""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from assembler.errors import ConfigurationError
from assembler.service.destination import Destination

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def open_destination(text: str) -> Destination:
    """Open the store that is named: a directory, or an URL.

    Raises
    ------
    ConfigurationError
        When it names none.
    OutputError
        When it is not there.
    """
    scheme = _SCHEME.match(text)
    if not scheme:
        from assembler.service.destination_directory import open_directory

        return open_directory(Path(text))
    kind = scheme.group(1).lower()
    try:
        parts = urlsplit(text)
        host, port, user, secret = parts.hostname or "", parts.port, parts.username or "", parts.password
    except ValueError as error:
        raise ConfigurationError(f"--to {kind}://...: {str(error)[:100]}") from None
    if secret is not None or (user and kind != "sftp"):
        raise ConfigurationError(f"--to {kind}://...: a secret does not belong on a command line, where everybody sees it")
    if parts.query or parts.fragment:
        raise ConfigurationError(f"--to {kind}://...: expected no ? and no #")
    path = unquote(parts.path)
    if kind == "file":
        if host not in ("", "localhost") or not path.startswith("/"):
            raise ConfigurationError("--to file://...: expected file:///PATH, on this host")
        from assembler.service.destination_directory import open_directory

        return open_directory(Path(path))
    if "\0" in path or ".." in path.split("/"):
        raise ConfigurationError(f"--to {kind}://...: its path has a part that is none")
    if kind == "s3" and host and port is None:
        from assembler.service.destination_s3 import open_s3

        return open_s3(parts.netloc, path.strip("/"))
    if kind == "sftp" and host and path.startswith("/"):
        from assembler.service.destination_sftp import open_sftp

        return open_sftp(host, port, unquote(user), path.rstrip("/") or "/")
    raise ConfigurationError(f"--to {kind}://...: expected a directory, file:///PATH, s3://BUCKET/PREFIX or sftp://USER@HOST:PORT/PATH")
