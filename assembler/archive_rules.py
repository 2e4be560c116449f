"""The YAML of an archive's rules; an error names file, line, place and what was expected."""

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field

from assembler.config import yaml_text
from assembler.core.cards import COMMENTARY
from assembler.core.places import TEMPLATE, check_template
from assembler.core.rule_names import NameRules
from assembler.core.rule_values import KIND_NAMES, ValueKind, is_of_kind
from assembler.core.rules import PRIMARY, ExtensionRules, KeywordRules, Rules, When, rule_names
from assembler.core.text_patterns import pattern_fault
from assembler.problems import STRICT, checked, matching, refuse
from assembler.schema import ExtensionName, FileName, Keyword, Text
from assembler.yaml import Place

_WITHOUT_VALUE = (*COMMENTARY, "CONTINUE", "HIERARCH", "END")
_WIDEST = 100_000
_MOST_DECIMALS = 20


def _scalar(value: Any) -> str | int | float | bool:
    if isinstance(value, str) and value.isascii() and value.isprintable():
        return value.rstrip()
    if isinstance(value, str | None) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("expected printable ASCII, a number, true or false")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("expected a number")
    return value


def _listed(value: Any) -> tuple[str | int | float | bool, ...]:
    if isinstance(value, dict) or value == []:
        raise ValueError("expected a value, or a list of values")
    return tuple(_scalar(v) for v in (value if isinstance(value, list) else [value]))


def _values(value: Any) -> tuple[str | int | float | bool, ...]:
    if not isinstance(value, list):
        raise ValueError("expected a list of values")  # noqa: TRY004 - pydantic makes an error of it
    return _listed(value)


def _required(value: Any) -> tuple[When, ...] | None:
    """Return on what it depends: true is on nothing, false is never."""
    if isinstance(value, bool):
        return () if value else None
    if not isinstance(value, dict) or not value or not all(re.fullmatch(r"[A-Z0-9_-]{1,8}", keyword) for keyword in value):
        raise ValueError("expected true, false, or keywords with the values on which it depends, for example {IMTYPE: Object}")
    return tuple(When(keyword=keyword, values=_listed(values)) for keyword, values in value.items())


def _pattern(value: str) -> str:
    fault = pattern_fault(value)
    if fault or not value:
        raise ValueError(f"expected a pattern; {fault or 'there is none'}")
    return value


def _place(value: str) -> str:
    try:
        return check_template(value)
    except ValueError as error:
        raise ValueError(f"expected folders and {{name}}, such as {TEMPLATE}; {error}") from None


def _whole(least: int, most: int) -> Any:
    def check(value: int) -> int:
        if not least <= value <= most:
            raise ValueError(f"expected a whole number from {least} to {most}")
        return value

    return AfterValidator(check)


_Required = Annotated[Any, AfterValidator(_required)]


class _Model(BaseModel):
    model_config = STRICT


class _Keyword(_Model):
    type: ValueKind | None = None
    required: _Required = None
    undefined: bool | None = None
    width: Annotated[int, _whole(1, _WIDEST)] | None = None
    minimum: Annotated[Any, AfterValidator(_number)] = Field(default=None, alias="min")
    maximum: Annotated[Any, AfterValidator(_number)] = Field(default=None, alias="max")
    values: Annotated[Any, AfterValidator(_values)] = ()
    pattern: Annotated[str, AfterValidator(_pattern)] | None = None


class _Extension(_Model):
    required: _Required = None
    keywords: dict[Keyword, _Keyword] = {}


class _Name(_Model):
    template: FileName | None = None
    keyword: Keyword | None = None
    begin: Keyword | None = None
    date: Keyword | None = None
    frame: Keyword | None = None


class _Document(_Model):
    archive: Annotated[Text, matching(r"(?=.*[!-~]).{1,100}", "the archive's name, in up to 100 characters")]
    instrument: Text | None = None
    decimals: Annotated[int, _whole(0, _MOST_DECIMALS)] | None = None
    name: _Name = Field(default_factory=_Name)
    primary: dict[Keyword, _Keyword] = {}
    extensions: dict[ExtensionName, _Extension] = {}
    forbidden: list[Keyword] = []
    warn: list[str] = []
    place: Annotated[str, AfterValidator(_place)] | None = None


def default_rules(yaml: Path) -> Path | None:
    """Return the rules of the archive that go with an instrument's YAML: archive.yaml beside it, where it is there."""
    beside = yaml.parent / "archive.yaml"
    return beside if beside.is_file() else None


def load_rules(path: Path) -> Rules:
    """Read the rules of an archive.

    Raises
    ------
    ConfigurationError
        In one line: file, line, place and what was expected there.
    """
    return read_rules(yaml_text(path), os.fspath(path))


def read_rules(text: str, name: str) -> Rules:
    """Read the rules of an archive from the text of a YAML file.

    Parameters
    ----------
    text : str
    name : str
        The file's, for the errors.

    Raises
    ------
    ConfigurationError
        In one line: file, line, place and what was expected there.
    """
    model, lines = checked(text, name, _Document)
    rules = Rules(
        archive=model.archive,
        instrument=model.instrument or "",
        place=model.place or "",
        decimals=model.decimals or 0,
        name=NameRules(**{part: keyword or "" for part, keyword in model.name}),
        primary=_keywords(model.primary),
        forbidden=tuple(model.forbidden),
        extensions=tuple(
            ExtensionRules(name=extension, required=told.required, keywords=_keywords(told.keywords))
            for extension, told in model.extensions.items()
        ),
        warnings=frozenset(model.warn),
    )
    refuse(_contradictions(model, rules), lines, name)
    refuse(_unknown(model.warn, rule_names(rules)), lines, name)
    return rules


def _keywords(models: dict[str, _Keyword]) -> tuple[KeywordRules, ...]:
    return tuple(
        KeywordRules(
            keyword=keyword,
            type=model.type,
            required=model.required,
            undefined=model.undefined,
            width=model.width,
            minimum=model.minimum,
            maximum=model.maximum,
            values=model.values,
            pattern=model.pattern or "",
        )
        for keyword, model in models.items()
    )


def _contradictions(model: _Document, rules: Rules) -> Iterator[tuple[Place, str]]:
    """Yield what is right by itself and wrong together, with its place."""
    yield from _contradicting_name(rules.name)
    for place, keywords in (
        (("primary",), rules.primary),
        *((("extensions", e.name, "keywords"), e.keywords) for e in rules.extensions),
    ):
        for rule in keywords:
            yield from (((*place, rule.keyword, *where), told) for where, told in _contradicting_keyword(rule, model.decimals))
    if PRIMARY in model.extensions:
        yield ("extensions", PRIMARY), "what is asked of the primary is under primary"
    asked = {rule.keyword for rule in rules.primary}
    for index, keyword in enumerate(rules.forbidden):
        if keyword in asked or keyword in _WITHOUT_VALUE:
            told = "is asked for under primary" if keyword in asked else "has no value"
            yield ("forbidden", index), f"{keyword} {told}; expected another keyword"


def _unknown(warn: list[str], names: tuple[str, ...]) -> Iterator[tuple[Place, str]]:
    """Yield what is to warn and is no rule; of rules that contradict themselves there are no names."""
    for index, name in enumerate(warn):
        if name not in names:
            example = f", for example {names[-1]}" if names else ""
            yield ("warn", index), f"expected the name of a rule of this file{example}; found {name}"


def _contradicting_name(name: NameRules) -> Iterator[tuple[Place, str]]:
    fields = [part for part in ("date", "seconds", "frame", "stem") if f"{{{part}}}" in name.template]
    if any(name.template.count(f"{{{part}}}") > 1 for part in fields):
        yield ("name", "template"), f"expected each of {{date}}, {{seconds}}, {{frame}} and {{stem}} once, found {name.template}"
    for part, keyword, needed in (
        ("begin", name.begin, {"date", "seconds"}),
        ("date", name.date, {"date"}),
        ("frame", name.frame, {"frame"}),
    ):
        if keyword and not needed & set(fields):
            yield (
                ("name", part),
                f"expected a template with {' or '.join(f'{{{field}}}' for field in sorted(needed))} to compare {keyword} with",
            )


def _contradicting_keyword(rule: KeywordRules, decimals: int | None) -> Iterator[tuple[Place, str]]:
    numbers = rule.type in ("integer", "real")
    if rule.keyword in _WITHOUT_VALUE:
        yield (), f"a {rule.keyword} card has no value; expected another keyword"
    if rule.width is not None and rule.type in (None, "logical"):
        yield ("width",), "expected type text, integer or real where there is a width"
    if rule.width is not None and rule.type == "real" and decimals is None:
        yield ("width",), "expected decimals at the top of the file where a real number has a width"
    for place, bound in (("min", rule.minimum), ("max", rule.maximum)):
        if bound is not None and not numbers:
            yield (place,), "expected type integer or real where there is a range"
    if rule.minimum is not None and rule.maximum is not None and rule.minimum > rule.maximum:
        yield ("max",), f"expected at least {rule.minimum}, found {rule.maximum}"
    if rule.pattern and rule.type != "text":
        yield ("pattern",), "expected type text where there is a pattern"
    for index, value in enumerate(rule.values):
        if rule.type and not is_of_kind(rule.type, value):
            yield ("values", index), f"expected {KIND_NAMES[rule.type]}, found {value!r}"
