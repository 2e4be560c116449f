"""Names for the primary: the prefix of an origin, then as much of the keyword as eight characters hold.

Precedence, from the strongest: names that the L0 itself or its telemetry has, renames of the YAML, keywords that
are kept whole, keywords that lose their last two characters, free names.
"""

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from itertools import chain, count
from typing import NamedTuple

from assembler.core.findings import Finding, finding

LENGTH = 8
KEPT = 6


class Claim(NamedTuple):
    """A card of an origin's primary that wants a name in the L0's primary."""

    origin: str
    prefix: str
    keyword: str
    renamed: str = ""


claim = partial(tuple.__new__, Claim)
"""Makes a claim of all that it has: in half the time that calling `Claim` takes, and an exposure has a thousand."""


def rule_name(prefix: str, keyword: str) -> str:
    """Return the name that the rule makes: a keyword of 7 or 8 characters loses its last two.

    >>> rule_name("RD", "TM_ZONE"), rule_name("GR", "DATE-BEG"), rule_name("EM", "SEQBEG")
    ('RDTM_ZO', 'GRDATE-B', 'EMSEQBEG')
    """
    return prefix + (keyword if len(keyword) <= KEPT else keyword[:-2])


def free_keyword(keyword: str, taken: Collection[str]) -> str:
    """Return a keyword that is not taken: the keyword itself, or its start with a number.

    >>> free_keyword("DATASEC", {"DATASEC", "DATASEC2"})
    'DATASEC3'
    """
    return keyword if keyword not in taken else next(name for name in _numbered(keyword) if name not in taken)


def assign_names(claims: Sequence[Claim], reserved: Collection[str]) -> tuple[tuple[str, ...], tuple[Finding, ...]]:
    """Give every claim a name of its own.

    Parameters
    ----------
    claims : sequence of Claim
        In the order of the YAML's origins, and of each origin's cards.
    reserved : collection of str
        Names that are taken.

    Returns
    -------
    names : tuple of str
        One for each claim, all different, none of them reserved.
    findings : tuple of Finding
        One for each claim that got another name than rule or rename would give.

    >>> claims = [Claim(origin="guide", prefix="GC", keyword=k) for k in ("TTCTRLY", "TTCTRLX")]
    >>> assign_names(claims, ())[0]
    ('GCTTCTR', 'GCTTCTR2')
    """
    wanted = [c.renamed or rule_name(c.prefix, c.keyword) for c in claims]
    ranks: tuple[list[int], ...] = ([], [], [])
    for index, claim in enumerate(claims):
        ranks[0 if claim.renamed else 1 if len(claim.keyword) <= KEPT else 2].append(index)
    taken = set(reserved)
    names: dict[int, str] = {}
    for index in chain(*ranks):
        if wanted[index] not in taken:
            names[index] = wanted[index]
            taken.add(wanted[index])
    if len(names) == len(claims):
        return tuple(wanted), ()
    findings = []
    numbered: dict[str, Iterator[str]] = {}  # of each name, the free ones that were not looked at yet
    owners: dict[str, str] = {name: f"{claims[i].keyword} of {claims[i].origin}" for i, name in names.items()}
    first = {(claims[i].origin, claims[i].keyword) for i in names}
    for index, claim in enumerate(claims):
        if index in names:
            continue
        free = next(name for name in numbered.setdefault(wanted[index], _numbered(wanted[index])) if name not in taken)
        taken.add(free)
        names[index] = free
        repeated = (claim.origin, claim.keyword) in first
        owner = owners.get(wanted[index], "the L0 itself or its telemetry")
        told = f"{claim.keyword} of {claim.origin} is {free}, because {wanted[index]} is {owner}; settle it under renames in the YAML"
        if repeated:
            told = f"{claim.keyword} is in the primary header of {claim.origin} more than once; the later one is {free}"
        findings.append(finding("duplicate-keyword" if repeated else "name-collision", told, origin=claim.origin, keyword=free))
    return tuple(names[i] for i in range(len(claims))), tuple(findings)


def _numbered(keyword: str) -> Iterator[str]:
    """Yield the keyword with 2, 3, 4... at its end, as much of it as eight characters hold."""
    for number in count(2):
        yield f"{keyword[: LENGTH - len(str(number))]}{number}"
