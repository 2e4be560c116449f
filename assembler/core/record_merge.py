"""Two records of one exposure: which of them stays."""

from collections.abc import Sequence
from dataclasses import dataclass

from assembler.core.instants import DAY, parse_iso
from assembler.core.record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a store has of an exposure already: the same observation, or another one with the same exposure id."""

    obs_id: str
    version: int
    begin_time: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is to be done with a record.

    Attributes
    ----------
    is_newest : bool
        Whether it is to be written; otherwise the store knows a newer version.
    gone : tuple of str
        Observations that it replaces: of the same exposure, whose L0 has another name now.
    conflict : str
        Another observation that has the same exposure id and is not the same exposure; empty where there is none.
    """

    is_newest: bool = True
    gone: tuple[str, ...] = ()
    conflict: str = ""


def judge(record: Record, standing: Sequence[Standing]) -> Verdict:
    """Decide what is to be done with a record, given what a store has of its exposure.

    An L0 that got another name, because its times are known better, is of a later version than the one that it replaced, and did
    not begin on another day. Any other observation with the same exposure id is another exposure.

    Parameters
    ----------
    record : Record
    standing : sequence of Standing
    """
    mine = str(record.columns["obs_id"])
    others = [other for other in standing if other.obs_id != mine]
    conflict = next((o.obs_id for o in others if o.version == record.version or not _is_near(record, o)), "")
    if conflict:
        return Verdict(is_newest=False, conflict=conflict)
    if any(other.version > record.version for other in standing):
        return Verdict(is_newest=False)
    return Verdict(gone=tuple(other.obs_id for other in others))


def _is_near(record: Record, other: Standing) -> bool:
    begin = record.columns["begin_time"]
    return isinstance(begin, str) and other.begin_time is not None and abs(parse_iso(begin) - parse_iso(other.begin_time)) < DAY
