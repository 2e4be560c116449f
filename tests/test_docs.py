"""The documents: what they list is what there is."""

import re
from pathlib import Path
from textwrap import dedent

import pytest
from click import Group
from commands import commands_of

from assembler import announcements, archive_rules
from assembler.cli import command
from assembler.core.columns import COLUMNS
from assembler.core.findings import CODES
from assembler.core.rules import rule_names
from assembler.corrections import _Correction, _Document, load_corrections
from assembler.schema import InstrumentModel

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def test_every_finding_is_documented_as_it_is():
    rows = re.findall(r"^\| `?([a-z0-9-]+)`? \| (\w+) \| (.+?) \|$", (DOCS / "findings.md").read_text(), re.MULTILINE)
    assert {code: (severity, meaning) for code, severity, meaning in rows if code in CODES} == CODES
    assert len([r for r in rows if r[0] in CODES]) == len(CODES)


@pytest.mark.parametrize(
    ("document", "page"),
    [
        (InstrumentModel, "instrument-yaml.md"),
        (_Document, "corrections.md"),
        (announcements._Document, "announcing.md"),
        (archive_rules._Document, "archive-rules.md"),
    ],
)
def test_every_key_of_the_yaml_is_documented(document, page):
    text = (DOCS / page).read_text()
    models, names = [document], set()
    while models:
        model = models.pop()
        for name, field in model.model_fields.items():
            names.add(field.alias or name)
            models += [m for m in _models(field.annotation) if m not in models]
    assert [n for n in sorted(names) if f"`{n}`" not in text] == []


def test_the_table_of_corrections_has_every_key_and_which_are_required():
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]*) \| .+ \|$", (DOCS / "corrections.md").read_text(), re.MULTILINE)
    fields = {f.alias or n: f.is_required() for n, f in _Correction.model_fields.items()}
    assert {name: default == "required" for name, default in rows} == fields


def test_the_example_of_corrections_is_that_of_the_page(kpf):
    (block,) = re.findall(r"\n\n(    corrections:\n.+?)\n\n", (DOCS / "corrections.md").read_text(), re.DOTALL)
    _, _, text = (ROOT / "examples" / "kpf-corrections" / "2024.yaml").read_text().partition("\n")
    assert dedent(block) == text.rstrip()
    assert len(load_corrections(ROOT / "examples" / "kpf-corrections", kpf)) == 3


def test_the_tables_of_archive_rules_have_every_key_and_the_example_every_kind():
    text = (DOCS / "archive-rules.md").read_text()
    rows = {name for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    models = (archive_rules._Document, archive_rules._Keyword, archive_rules._Extension, archive_rules._Name)
    assert {f.alias or n for m in models for n, f in m.model_fields.items()} <= rows
    (block,) = re.findall(r"\n\n(    archive: mine\n.+?)\n\n", text, re.DOTALL)
    names = rule_names(archive_rules.read_rules(dedent(block), "example"))
    examples = re.findall(r"^\| `(\w+)` \| (`\w+ .*?`) \|", text, re.MULTILINE)
    assert [kind for kind, _ in examples] == list(dict.fromkeys(kind for kind, _ in examples))
    assert {kind for kind, _ in examples} == {name.split()[0] for name in names}
    assert [e for _, row in examples for e in re.findall(r"`(.+?)`", row) if e not in names] == []


def _models(annotation):
    if hasattr(annotation, "model_fields"):
        return [annotation]
    return [m for inner in getattr(annotation, "__args__", ()) for m in _models(inner)]


def test_every_command_is_in_the_readme():
    def names(group, before=()):
        for name, inner in commands_of(group).items():
            if isinstance(inner, Group):
                yield from names(inner, (*before, name))
            else:
                yield " ".join((*before, name))

    text = (ROOT / "README.md").read_text()
    assert [n for n in names(command) if f"assembler {n} " not in text] == []


def test_every_column_of_a_record_is_documented_as_it_is():
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \| (.+?) \|$", (DOCS / "record.md").read_text(), re.MULTILINE)
    told = {name: (kind, unit.strip(), meaning) for name, kind, unit, meaning in rows}
    units = {name: column.unit.removesuffix(" from zenith") for name, column in COLUMNS.items()}
    meant = {name: (c.kind, units[name], c.meaning + " (L0)" * c.is_told) for name, c in COLUMNS.items()}
    assert {name: told.get(name) for name in meant} == meant


@pytest.mark.parametrize("path", [*ROOT.glob("*.md"), *DOCS.rglob("*.md")], ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_leads_somewhere(path):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_every_event_of_the_watcher_is_in_its_table():
    told = set()
    for path in (*(ROOT / "assembler" / "service").glob("*.py"), ROOT / "assembler" / "watch.py"):
        told |= set(re.findall(r'(?:log|told|_tell)\.?(?:info|warning|error|exception)?\("([a-z0-9_]+)"', path.read_text()))
    told |= set(re.findall(r'"(published|was_there_already)" if', (ROOT / "assembler" / "service" / "watcher.py").read_text()))
    told |= set(re.findall(r'else "(was_there_already)"', (ROOT / "assembler" / "service" / "watcher.py").read_text()))
    rows = re.findall(r"^\| (`.*?) \| (?:info|warning|error)", (ROOT / "docs" / "watch.md").read_text(), re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`([a-z0-9_]+)`", row)}
    assert told == listed
