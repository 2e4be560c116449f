"""Sub-FITS and the exposure that they make up: who is attached, who is missing and why."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from assembler.core.cards import Record, Value, read_record, read_records, value_of
from assembler.core.findings import Finding, finding
from assembler.core.instrument import Instrument, Origin

REASONS = ("absent", "not-triggered", "frame-differs", "other-exposure", "still-growing", "truncated", "unreadable")
"""Why an origin is missing; each is also the code of its finding."""

MISSING_CODES = (*REASONS, "absent-though-triggered")
"""The codes of findings that tell of an origin that is missing, and why."""


@dataclass(frozen=True, kw_only=True)  # without slots, so that what is worked out once is kept
class Hdu:
    """One HDU of a sub-FITS, undecoded.

    Attributes
    ----------
    index : int
        Its number, from 0.
    images : tuple of str
        The cards before END, 80 characters each.
    offset, length : int
        Where its data unit is in the (decompressed) file, and how long with its fill [bytes].
    header_sum : int
        Ones' complement sum of the header's 32-bit words.
    blank_padding : bool
        Whether only blanks follow END.
    clean_fill : bool
        Whether the data unit is filled up as the Standard asks.
    corrected : mapping of int to str
        By place of a card, from 0, the value field that it gets in the L0. ``images`` are as they were all the same.
    """

    index: int
    images: tuple[str, ...]
    offset: int
    length: int
    header_sum: int
    blank_padding: bool = True
    clean_fill: bool = True
    corrected: Mapping[int, str] = field(default_factory=dict, hash=False)

    def records(self) -> list[Record]:
        """Read the header, with the corrected values."""
        records = read_records(self.images)
        return list(map(self._corrected, records)) if self.corrected else records

    def record(self, keyword: str) -> Record | None:
        """Return the first card with a keyword."""
        place = self._places.get(f"{keyword:8}")
        return None if place is None else self._corrected(read_record(place, self.images[place]))

    def value(self, keyword: str) -> Value:
        """Return the value of the first card with a keyword, a long string whole; None when there is none."""
        found = self.record(keyword)
        if found and found.text.endswith("&'"):  # rare, so that it may take long
            return self.values().get(keyword)
        return value_of(found.text) if found and found.kind == "value" else None

    def values(self) -> dict[str, Value]:
        """Return the values of all cards, long strings whole; of a keyword that is there twice, the first one."""
        values: dict[str, Value] = {}
        for record in self.records():
            if record.kind == "value":
                values.setdefault(record.keyword, record.value)
        return values

    @cached_property
    def extname(self) -> str:
        """The first EXTNAME that says something, or the empty string."""
        first = self._places.get("EXTNAME ")
        for place, image in enumerate(self.images[first:], first) if first is not None else ():
            if image.startswith("EXTNAME "):
                name = self._corrected(read_record(place, image)).value
                if isinstance(name, str) and name.strip():
                    return name.strip()
        return ""

    @cached_property
    def _places(self) -> dict[str, int]:
        """By the first eight columns, which card has them first; of each header, a dozen are looked up again and again."""
        starts = [image[:8] for image in self.images]
        return dict(zip(reversed(starts), range(len(starts) - 1, -1, -1), strict=True))  # of several, the first comes last, and stays

    def _corrected(self, record: Record) -> Record:
        text = self.corrected.get(record.place)
        return record if text is None else record._replace(text=text, corrected=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class SubFits:
    """One sub-FITS as it was found: where it is and what HDUs it has.

    Attributes
    ----------
    path : str
    compressed : bool
        Whether its bytes are gzip, whatever its name.
    hdus : tuple of Hdu
    trailing : int
        Bytes after the last HDU.
    signature : tuple of int
        Size [bytes], modification time [ns] and inode; while they hold, the file is the same.
    digest : str
        SHA-256 of its FITS content in hexadecimal digits, where it is known already; else empty.
    """

    path: str
    compressed: bool
    hdus: tuple[Hdu, ...]
    trailing: int = 0
    signature: tuple[int, int, int] = (0, 0, 0)
    digest: str = ""

    @property
    def name(self) -> str:
        """The file's own name."""
        return self.path.rsplit("/", 1)[-1]

    @property
    def content_length(self) -> int:
        """The length of its FITS content, with what follows the last HDU [bytes]."""
        return self.hdus[-1].offset + self.hdus[-1].length + self.trailing


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """An origin that was asked for and is not attached."""

    origin: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """What gets assembled: the attached sub-FITS in the order of the YAML, and the missing origins."""

    frame: int | None
    attached: tuple[tuple[Origin, SubFits], ...]
    missing: tuple[Missing, ...]


def collect(instrument: Instrument, found: Mapping[str, SubFits], missing: Sequence[Missing] = (), frame: int | None = None) -> Exposure:
    """Put an exposure together from the sub-FITS that were found, in whatever order they came.

    Parameters
    ----------
    instrument : Instrument
    found : mapping of str to SubFits
        By origin.
    missing : sequence of Missing
        Origins known to be missing, with the reason; every other one that is not found is absent.
    frame : int or None
        The frame asked for; None: the one that most sub-FITS name.
    """
    frames = {o.name: n for o in instrument.origins if o.name in found and (n := frame_of(o, found[o.name])) is not None}
    if frame is None and frames:
        frame = Counter(frames.values()).most_common(1)[0][0]
    attached, left_out = [], {m.origin: m for m in missing}
    for origin in instrument.origins:
        if origin.name in left_out:
            continue
        if origin.name not in found:
            left_out[origin.name] = Missing(origin=origin.name, reason="absent", message=f"no sub-FITS of {origin.name} was found")
        elif origin.match == "frame" and frames.get(origin.name, frame) != frame:
            message = f"{found[origin.name].path}: {origin.frame} is {frames[origin.name]}, the exposure's is {frame}"
            left_out[origin.name] = Missing(origin=origin.name, reason="frame-differs", message=message)
        else:
            attached.append((origin, found[origin.name]))
    return Exposure(
        frame=frame,
        attached=tuple(attached),
        missing=tuple(left_out[o.name] for o in instrument.origins if o.name in left_out),
    )


def frame_of(origin: Origin, sub: SubFits) -> int | None:
    """Return the frame number that a sub-FITS names, or None."""
    value = sub.hdus[0].value(origin.frame) if origin.frame and origin.match == "frame" else None
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def triggered_names(told: str) -> frozenset[str]:
    """Return the names in a list of triggered origins as the history tells it: separated by commas, in any case.

    >>> sorted(triggered_names("Green, Ca_HK"))
    ['ca_hk', 'green']
    """
    return frozenset(name.strip().lower() for name in told.split(","))


def missing_findings(exposure: Exposure, instrument: Instrument, triggered: str | None) -> tuple[Finding, ...]:
    """Say why origins are missing.

    Parameters
    ----------
    triggered : str or None
        The value of the keyword that lists the triggered origins, separated by commas; None when nobody tells.
    """
    names = triggered_names(triggered) if triggered is not None else None
    result = []
    for lost in exposure.missing:
        code, message = lost.reason, lost.message
        trigger = instrument.origin(lost.origin).triggered.lower()
        if code == "absent" and names is not None and trigger:
            code = "absent-though-triggered" if trigger in names else "not-triggered"
            message += f"; triggered were {triggered}"
        result.append(finding(code, message, origin=lost.origin))
    return tuple(result)


def file_findings(exposure: Exposure) -> tuple[Finding, ...]:
    """Say what of the attached files is not in the L0 as it was."""
    result = []
    for origin, sub in exposure.attached:
        if sub.compressed:
            result.append(finding("compressed", f"{sub.path} is compressed with gzip", origin=origin.name))
        if sub.trailing:
            result.append(finding("trailing-bytes", f"{sub.path} has {sub.trailing} bytes after its last HDU", origin=origin.name))
        for hdu in sub.hdus:
            where = f"{sub.path}, HDU {hdu.index}"
            if not hdu.blank_padding:
                result.append(finding("header-padding", f"{where}: the header is not padded with blanks", origin=origin.name))
            if not hdu.clean_fill:
                result.append(finding("data-fill", f"{where}: the data unit is filled up with something else", origin=origin.name))
    return tuple(result)
