"""Shards: the exposures of a night as so many parts, so that jobs that know nothing of each other share the work."""

import re
from dataclasses import dataclass
from hashlib import blake2b

_MOST = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One of so many parts, counted from 1.

    Whether an exposure belongs to it depends on the night and on what the exposure is called, and on nothing else: neither on
    what else is there, nor on any order.
    """

    number: int
    count: int

    def has(self, night: str, name: str) -> bool:
        """Tell whether an exposure belongs to this part.

        Parameters
        ----------
        night : str
            The name of the night's directory, without what is above it: hosts may have it under another path.
        name : str
            What the exposure is called within the night.

        >>> [number for number in (1, 2, 3) if Shard(number=number, count=3).has("2024apr21", "215921")]
        [3]
        """
        digest = blake2b(f"{night}/{name}".encode("utf-8", "surrogateescape"), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.count == self.number - 1


def parse_shard(text: str) -> Shard:
    """Read ``I/N``.

    Raises
    ------
    ValueError
        When it is none.

    >>> parse_shard("2/16")
    Shard(number=2, count=16)
    """
    found = re.fullmatch(r"([0-9]{1,7})/([0-9]{1,7})", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]) <= _MOST:
        raise ValueError(f"{text[:40]!a}: expected I/N, part I of N, such as 3/16; I from 1 to N, N at most {_MOST}")
    return Shard(number=int(found[1]), count=int(found[2]))
