"""An L0 that is to be archived, held open: verified, judged by the archive's rules, and hashed, all of it one and the same file."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from assembler.core.cards import Value
from assembler.core.checksum_lines import SHA256SUMS
from assembler.core.exposure import Hdu
from assembler.core.instants import parse_iso
from assembler.core.places import Place, place_of
from assembler.core.receipts import SUFFIX, Content, ReceivedFinding, ReceivedL0, ReceivedSource, ToldRule
from assembler.core.rules import Broken
from assembler.core.versions import is_version
from assembler.errors import InputError, VerificationError
from assembler.fits.blocks import open_fits, signature_of
from assembler.service.archive_results import RefusalError
from assembler.service.destination import read_content
from assembler.service.reader import verify_l0
from assembler.service.recorded import Recording, read_recording

_MOST_TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The rules of an archive.

    Attributes
    ----------
    judge : callable
        Given the HDUs of an L0 and its name, returns the rules that it breaks.
    sha256 : str
        Of their text.
    """

    judge: Callable[[Sequence[Hdu], str], tuple[Broken, ...]]
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An L0 that may be archived.

    Attributes
    ----------
    path : Path
    stream : file
        Open for reading. What is archived is read from it, whatever has the name by now.
    signature : (int, int, int)
        As `signature_of` told it when the file was opened.
    l0 : ReceivedL0
    begin : int or None
        DATE-BEG [ns].
    sources : tuple of ReceivedSource
    findings : tuple of ReceivedFinding
    warnings : tuple of ToldRule
    """

    path: Path
    stream: IO[bytes]
    signature: tuple[int, int, int]
    l0: ReceivedL0
    begin: int | None
    sources: tuple[ReceivedSource, ...]
    findings: tuple[ReceivedFinding, ...]
    warnings: tuple[ToldRule, ...]

    def place(self, template: str) -> Place:
        """Return where it goes by a template.

        Raises
        ------
        RefusalError
            When it cannot go anywhere.
        """
        if self.l0.name == SHA256SUMS or self.l0.name.endswith(SUFFIX):
            raise RefusalError("name", f"{self.l0.name} is the name of something else in an archive")
        try:
            return place_of(template, self.l0.name, self.begin, self.l0.version)
        except ValueError as error:
            raise RefusalError("name", str(error)) from None

    def check_unchanged(self) -> None:
        """Raise `InputError` when another file has its name, or it was written to, since it was opened."""
        if signature_of(self.stream) != self.signature or _differs(self.path, self.signature):
            raise InputError(f"{self.path}: changed while it was read", path=str(self.path), retry=True)


@contextmanager
def examined(path: Path, rules: Rules | None) -> Iterator[Candidate]:
    """Lend an L0 that was found to be whole and lawful; one that changes meanwhile is looked at again.

    Raises
    ------
    RefusalError
        When it is not.
    InputError
        When it cannot be read, is no L0, or changes again and again.
    """
    for tries in range(_MOST_TRIES):
        with open_fits(str(path)) as (stream, gzipped):
            if gzipped:
                raise RefusalError("verification", f"{path}: is compressed as a whole, by gzip; an archive gets the L0 as it was made")
            signature = signature_of(stream)
            try:
                candidate = _examine(path, stream, signature, rules)
                candidate.check_unchanged()
            except (InputError, RefusalError):
                # A file that was replaced or was still being written may look like anything.
                if not _differs(path, signature):
                    raise
                if tries + 1 < _MOST_TRIES:
                    continue
                raise InputError(f"{path}: changed while it was read", path=str(path), retry=True) from None
            yield candidate
            return


def _examine(path: Path, stream: IO[bytes], signature: tuple[int, int, int], rules: Rules | None) -> Candidate:
    """Read all that is told of an L0, by its name."""
    recording = read_recording(path)
    try:
        verify_l0(path)
    except VerificationError as error:
        raise RefusalError("verification", str(error)) from None
    warnings: tuple[ToldRule, ...] = ()
    if rules is not None:
        found = rules.judge(recording.found.hdus, path.name)
        broken = tuple(ToldRule(rule=b.rule, message=b.message) for b in found if b.refuses)
        warnings = tuple(ToldRule(rule=b.rule, message=b.message) for b in found if not b.refuses)
        if broken:
            names = ", ".join(dict.fromkeys(b.rule for b in broken))
            raise RefusalError(
                "rule", f"it breaks {'a rule' if len(broken) == 1 else f'{len(broken)} rules'} of the archive: {names}", broken
            )
    stream.seek(0)
    content = read_content(stream.read)
    values = recording.values
    version = values.get("L0VER")
    l0 = ReceivedL0(
        name=path.name,
        ofname=recording.text("OFNAME"),
        content=content,
        version=version if is_version(version) else None,
        assembler=recording.text("FAVER") or None,
        yaml=recording.text("YAMLSHA") or None,
    )
    findings = tuple(
        ReceivedFinding(code=f.code, severity=f.severity, origin=f.origin, keyword=f.keyword, message=f.message) for f in recording.findings
    )
    return Candidate(
        path=path,
        stream=stream,
        signature=signature,
        l0=l0,
        begin=_instant(values.get("DATE-BEG")),
        sources=_sources(recording),
        findings=findings,
        warnings=warnings,
    )


def _sources(recording: Recording) -> tuple[ReceivedSource, ...]:
    """Return what the L0 was made of: as it tells, or as far as the ledger does, where it was made before L0s told."""
    told = {(s.origin, s.file): Content(size=s.length, sha256=s.digest) for s in recording.sources if s.digest}
    known = dict.fromkeys([*((s.origin, s.file) for s in recording.sources), *((row.origin, row.file) for row in recording.ledger)])
    return tuple(ReceivedSource(origin=origin, file=file, content=told.get((origin, file))) for origin, file in known)


def _instant(value: Value) -> int | None:
    try:
        return parse_iso(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _differs(path: Path, signature: tuple[int, int, int]) -> bool:
    """Tell whether what has the name is not, or not as, what was opened."""
    try:
        now = os.stat(path)
    except OSError:
        return True
    return (now.st_size, now.st_mtime_ns, now.st_ino) != signature
