"""The documents: what they list is what there is."""

import re
from pathlib import Path

import pytest
from click import Group

from assembler.cli import command
from assembler.core.findings import CODES
from assembler.schema import _Instrument

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def test_every_finding_is_documented_as_it_is():
    rows = re.findall(r"^\| `?([a-z0-9-]+)`? \| (\w+) \| (.+?) \|$", (DOCS / "findings.md").read_text(), re.MULTILINE)
    assert {code: (severity, meaning) for code, severity, meaning in rows if code in CODES} == CODES
    assert len([r for r in rows if r[0] in CODES]) == len(CODES)


def test_every_key_of_the_yaml_is_documented():
    text = (DOCS / "instrument-yaml.md").read_text()
    models, names = [_Instrument], set()
    while models:
        model = models.pop()
        for name, field in model.model_fields.items():
            names.add(field.alias or name)
            models += [m for m in _models(field.annotation) if m not in models]
    assert [n for n in sorted(names) if f"`{n}`" not in text] == []


def _models(annotation):
    if hasattr(annotation, "model_fields"):
        return [annotation]
    return [m for inner in getattr(annotation, "__args__", ()) for m in _models(inner)]


def test_every_command_is_in_the_readme():
    def names(group, before=()):
        for name, inner in group.commands.items():
            if isinstance(inner, Group):
                yield from names(inner, (*before, name))
            else:
                yield " ".join((*before, name))

    text = (ROOT / "README.md").read_text()
    assert [n for n in names(command) if f"assembler {n} " not in text] == []


@pytest.mark.parametrize("path", [*ROOT.glob("*.md"), *DOCS.rglob("*.md")], ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_leads_somewhere(path):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []
