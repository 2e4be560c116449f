"""Golden text: the whole primary, HDU list, fates and findings of a KPF exposure, for eyes and for git diff.

``make golden`` renews the file.
"""

import re
from collections import Counter
from pathlib import Path

import memory
import pytest

GOLDEN = Path(__file__).parent / "golden"


def as_text(plan) -> str:
    lines = [plan.filename, "", *(card.rstrip() for card in plan.hdus[0].cards), ""]
    lines += [f"{h.name}: {len(h.cards)} cards" for h in plan.hdus]
    counts = Counter((r.origin, r.hdu, r.fate) for r in plan.ledger)
    lines += ["", *(f"{origin} HDU {hdu}: {count} {fate}" for (origin, hdu, fate), count in counts.items())]
    lines += ["", *(f"{f.severity} {f.code} {f.origin} {f.keyword}: {f.message}" for f in plan.findings)]
    return re.sub(r"(YAMLSHA = ')\w{64}", r"\1...", "\n".join(lines) + "\n")  # another comment in the YAML is no other plan


@pytest.mark.parametrize(("name", "missing"), [("kpf", ()), ("kpf_without_red", ("red",))])
def test_the_plan_reads_as_it_did(plan, request, name, missing):
    subs = {origin: sub for origin, sub in memory.kpf_subs().items() if origin not in missing}
    text = as_text(plan(subs))
    path = GOLDEN / f"{name}.txt"
    if request.config.getoption("--renew-golden"):
        path.write_text(text, encoding="ascii")
    assert text == path.read_text(encoding="ascii")
