"""The checksums of FITS (Standard, appendix J): sums of 32-bit words, and the text that stands for them."""

from typing import Any

import numpy as np

ALL_ONES = 0xFFFFFFFF
_EXCLUDED = frozenset((*range(0x3A, 0x41), *range(0x5B, 0x61)))


def word_sum(buffer: Any) -> int:
    """Return the ones' complement sum of the big-endian 32-bit words of a buffer.

    Parameters
    ----------
    buffer : bytes-like
        A multiple of four bytes.

    >>> word_sum(bytes([255, 255, 255, 255, 0, 0, 0, 2]))
    2
    """
    return fold(int(np.frombuffer(buffer, ">u4").sum(dtype=np.uint64)))


def fold(total: int) -> int:
    """Carry what is above 32 bits around; sums of parts may be added and folded in any order.

    >>> fold(0x1_0000_0001)
    2
    """
    while total >> 32:
        total = (total & ALL_ONES) + (total >> 32)
    return total


class Total:
    """The sum of bytes that come in parts of any length; what is missing of the last word counts as zeros.

    >>> total = Total()
    >>> for part in (bytes([0, 0]), bytes([0, 2, 0, 0, 0]), bytes([3, 1])):
    ...     total.add(part)
    >>> total.value == word_sum(bytes([0, 0, 0, 2, 0, 0, 0, 3, 1, 0, 0, 0]))
    True
    """

    def __init__(self) -> None:
        self._sum = 0
        self._rest = b""

    def add(self, part: bytes | memoryview) -> None:
        """Add what comes next."""
        missing = -len(self._rest) % 4
        begun, part = self._rest + part[:missing], memoryview(part)[missing:]
        whole = len(part) // 4 * 4
        if len(begun) % 4:
            self._rest = bytes(begun)
            return
        self._sum = fold(self._sum + word_sum(begun) + word_sum(part[:whole]))
        self._rest = bytes(part[whole:])

    @property
    def value(self) -> int:
        """The sum up to here."""
        return fold(self._sum + word_sum(self._rest.ljust(4, b"\0")))


def encode(total: int) -> str:
    """Return the sixteen characters of CHECKSUM that bring an HDU's sum to all ones.

    Parameters
    ----------
    total : int
        The sum of the HDU with CHECKSUM at sixteen zeros.

    >>> encode(868229149)
    'hcHjjc9ghcEghc9g'
    """
    complement = ALL_ONES - total
    characters = [""] * 16
    for place in range(4):
        byte = complement >> (24 - 8 * place) & 0xFF
        quotient, remainder = byte // 4 + ord("0"), byte % 4
        four = [quotient + remainder, quotient, quotient, quotient]
        while any(code in _EXCLUDED for code in four):
            for pair in (0, 2):
                if four[pair] in _EXCLUDED or four[pair + 1] in _EXCLUDED:
                    four[pair] += 1
                    four[pair + 1] -= 1
        for turn, code in enumerate(four):
            characters[4 * turn + place] = chr(code)
    return characters[-1] + "".join(characters[:-1])
