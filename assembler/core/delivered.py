"""What each sub-FITS was, byte for byte: its length and its SHA-256, as the header of CARDS tells them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from assembler.core.cards import printable_text, read_records, text_of, write_card
from assembler.core.exposure import Exposure
from assembler.core.instrument import Instrument

_DIGEST = re.compile(r"[0-9a-f]{64}")
_ORIGIN = re.compile(r"ORIGIN(\d{1,2})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """A sub-FITS as it was delivered.

    Attributes
    ----------
    origin : str
    file : str
        Its name, without directory.
    length : int
        Of its FITS content, unpacked where it was compressed as a whole [bytes].
    digest : str
        SHA-256 of that in hexadecimal digits; empty as long as it was not read.
    """

    origin: str
    file: str
    length: int
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """A sub-FITS to be read from its first byte to its last.

    Attributes
    ----------
    delivered : Delivered
    number : int
        Of its origin in the YAML, from 1.
    path : str
    compressed : bool
    signature : tuple of int
        That of `SubFits`: a file that has another one by now is another file.
    """

    delivered: Delivered
    number: int
    path: str
    compressed: bool
    signature: tuple[int, int, int]


def exposure_inputs(instrument: Instrument, exposure: Exposure) -> tuple[Input, ...]:
    """Return what is to be read of an exposure."""
    numbers = {origin.name: number for number, origin in enumerate(instrument.origins, 1)}
    return tuple(
        Input(
            delivered=Delivered(origin=origin.name, file=printable_text(sub.name), length=sub.content_length, digest=sub.digest),
            number=numbers[origin.name],
            path=sub.path,
            compressed=sub.compressed,
            signature=sub.signature,
        )
        for origin, sub in exposure.attached
    )


def with_digests(inputs: Iterable[Input], digests: Mapping[str, str]) -> tuple[Input, ...]:
    """Return the inputs with the SHA-256 of those that were read, by origin."""
    return tuple(
        replace(one, delivered=replace(one.delivered, digest=digests.get(one.delivered.origin, one.delivered.digest))) for one in inputs
    )


def delivered_cards(inputs: Iterable[Input]) -> tuple[str, ...]:
    """Write the cards of CARDS that tell what each sub-FITS was; as many, whether they were read or not.

    >>> one = Delivered(origin="red", file="kpf_1.fits", length=5760)
    >>> cards = delivered_cards([Input(delivered=one, number=2, path="", compressed=False, signature=(0, 0, 0))])
    >>> [card.rstrip() for card in cards][2:]
    ['SIZE2   =                 5760 / [byte] of FITS content, with SHA-256 SHA2', 'SHA2    =']
    """
    cards: list[str] = []
    for one in inputs:
        number, told = one.number, one.delivered
        cards += write_card(f"ORIGIN{number}", text_of(told.origin), "who delivered a sub-FITS")
        cards += write_card(f"FILE{number}", text_of(told.file), "its name")
        cards += write_card(f"SIZE{number}", text_of(told.length), f"[byte] of FITS content, with SHA-256 SHA{number}")
        cards += write_card(f"SHA{number}", text_of(told.digest) if told.digest else "")
    return tuple(cards)


def read_delivered(images: Sequence[str]) -> tuple[Delivered, ...]:
    """Read back what the header of CARDS tells; what is not as `delivered_cards` writes it is left out."""
    values = {r.keyword: r.value for r in read_records(images) if r.kind == "value"}
    told = []
    for keyword, origin in values.items():
        found = _ORIGIN.fullmatch(keyword)
        if found is None:
            continue
        number = found.group(1)
        file, length, digest = (values.get(f"{name}{number}") for name in ("FILE", "SIZE", "SHA"))
        if isinstance(origin, str) and isinstance(file, str) and isinstance(length, int) and length >= 0:
            is_digest = isinstance(digest, str) and _DIGEST.fullmatch(digest)
            told.append(Delivered(origin=origin, file=file, length=length, digest=str(digest) if is_digest else ""))
    return tuple(told)
