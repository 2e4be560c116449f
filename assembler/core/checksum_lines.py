"""SHA256SUMS of a folder: lines that `sha256sum -c` reads. Whatever else is in it stays as it is."""

import re
from collections.abc import Iterator, Mapping

from assembler.core.places import check_part

SHA256SUMS = "SHA256SUMS"
_LINE = re.compile(rb"\\?([0-9A-Fa-f]{64}) [ *](.+)")
_TAGGED = re.compile(rb"SHA256 \((.+)\) = ([0-9A-Fa-f]{64})")


def digests_in(text: bytes) -> dict[str, str]:
    """Return the SHA-256 of each file that lines of SHA256SUMS name, as text or as BSD writes them; of two lines the first.

    >>> digests_in(b"# mine" + bytes([10]) + b"ab" * 32 + b"  a.fits")
    {'a.fits': 'abababababababababababababababababababababababababababababababab'}
    """
    found: dict[str, str] = {}
    for name, digest in _lines(text):
        found.setdefault(name, digest)
    return found


def contradicts(text: bytes, name: str, digest: str) -> bool:
    """Tell whether any line of SHA256SUMS says something else of a file.

    >>> contradicts(b"ab" * 32 + b"  a.fits", "a.fits", "cd" * 32), contradicts(b"ab" * 32 + b"  b.fits", "a.fits", "cd" * 32)
    (True, False)
    """
    return any(told == name and other != digest for told, other in _lines(text))


def _lines(text: bytes) -> Iterator[tuple[str, str]]:
    """Yield name and SHA-256 of each line; `./a` is `a`, and the end of a line may be that of Windows, as for `sha256sum -c`."""
    for line in (one.removesuffix(b"\r") for one in text.split(b"\n")):
        if match := _LINE.fullmatch(line):
            digest, name = match.groups()
        elif match := _TAGGED.fullmatch(line):
            name, digest = match.groups()
        else:
            continue
        yield name.removeprefix(b"./").decode("utf-8", "surrogateescape"), digest.decode("ascii").lower()


def with_digests(text: bytes, digests: Mapping[str, str]) -> bytes:
    """Return SHA256SUMS with a line for each file that it has none for, in the order of their names, behind those there are.

    >>> with_digests(b"", {"a.fits": "0" * 64}).decode().split()[1]
    'a.fits'
    """
    there = digests_in(text)
    missing = sorted(name for name in digests if name not in there)
    for name in missing:
        check_part(name)  # sha256sum would read others in another way
    if not missing:
        return text
    begun = text if not text or text.endswith(b"\n") else text + b"\n"
    return begun + b"".join(f"{digests[name]}  {name}\n".encode("ascii") for name in missing)
