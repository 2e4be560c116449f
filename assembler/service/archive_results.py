"""What came of an L0 that was to be archived: one of four words, and everything that a message about it needs."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from assembler.core.lines import as_line
from assembler.core.receipts import Receipt, ToldRule

State = Literal["accepted", "duplicate", "refused", "failed", "lawful"]
"""Of an L0 that was only checked, ``lawful`` or ``refused``."""

Kind = Literal["", "rule", "verification", "name", "content", "input", "storage"]
"""Why not: by a rule; it is not whole; it has no place; something else has it; it cannot be read; the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of an L0.

    Attributes
    ----------
    l0 : str
        Its path, as it was given.
    state : str
    kind : str
        Why it was refused or failed.
    reason : str
        That in words, one line.
    broken : tuple of ToldRule
        The rules that it was refused by.
    warnings : tuple of ToldRule
        The rules that only warn of it.
    url : str
        Where it is in the archive; empty where it is not.
    receipt : Receipt or None
        As it is beside the file in the archive.
    """

    l0: str
    state: State
    kind: Kind = ""
    reason: str = ""
    broken: tuple[ToldRule, ...] = ()
    warnings: tuple[ToldRule, ...] = ()
    url: str = ""
    receipt: Receipt | None = None

    @property
    def exit_code(self) -> int:
        """What a command that had only this one ends with."""
        if self.state in ("accepted", "duplicate", "lawful"):
            return 0
        return {"input": 3, "storage": 4}.get(self.kind, 1)

    def plain(self) -> dict[str, Any]:
        """Return it for JSON."""
        told: dict[str, Any] = {"l0": self.l0, "state": self.state, "url": self.url or None}
        told |= {"reason": self.reason or None, "kind": self.kind or None, "rules": [asdict(b) for b in self.broken]}
        told["warnings"] = [asdict(w) for w in self.warnings]
        receipt = self.receipt
        counts = {s: sum(f.severity == s for f in receipt.findings) for s in ("info", "warning", "error")} if receipt else None
        return told | {
            "size": receipt.content.size if receipt else None,
            "sha256": receipt.content.sha256 if receipt else None,
            "compressed": receipt.compressed if receipt else None,
            "version": receipt.l0.version if receipt else None,
            "ofname": receipt.l0.ofname if receipt else None,
            "origins": list(dict.fromkeys(s.origin for s in receipt.sources)) if receipt else None,
            "findings": counts,
        }


class RefusalError(Exception):
    """An L0 is not to be archived; it never leaves the flow that makes a result of it."""

    def __init__(self, kind: Kind, reason: str, broken: tuple[ToldRule, ...] = ()) -> None:
        super().__init__(as_line(reason))
        self.kind = kind
        self.broken = broken
