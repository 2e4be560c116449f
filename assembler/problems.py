"""What is wrong with a YAML file, in one line: file, line, place, and what was expected there."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from assembler.errors import ConfigurationError
from assembler.yaml import Place, dotted, read_yaml

Document = TypeVar("Document", bound=BaseModel)

_EXPECTED = {
    "string_type": "expected text",
    "int_type": "expected a whole number",
    "bool_type": "expected true or false",
    "dict_type": "expected a mapping",
    "model_type": "expected a mapping",
    "list_type": "expected a list",
}
"""What was expected, by pydantic's name for the error."""


STRICT = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)
"""How a YAML file is checked: its words and no others, each of its own type."""


def matching(pattern: str, expected: str) -> Any:
    """Return what checks that a text matches a pattern, and says what was expected where it does not."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"expected {expected}")
        return text

    return AfterValidator(check)


def checked(
    text: str, name: str, document: type[Document], *, secret: frozenset[str] = frozenset()
) -> tuple[Document, Mapping[Place, int]]:
    """Return what the text of a YAML file says, checked, and the line of every place.

    Parameters
    ----------
    text : str
    name : str
        The file's.
    document : type of BaseModel
        What the file is checked against.
    secret : frozenset of str, optional
        Keys of which nothing is shown that stands there.

    Raises
    ------
    ConfigurationError
        In one line: file, line, place and what was expected there.
    """
    tree, lines = read_yaml(text, name)
    try:
        return document.model_validate(tree), lines
    except ValidationError as error:
        raise ConfigurationError(_first_problem(error, lines, name, document, secret)) from None


def refuse(problems: Iterable[tuple[Place, str]], lines: Mapping[Place, int], name: str) -> None:
    """Raise the problem that stands first in a file, if there is any; one without a line of its own is where its surroundings are."""
    told = []
    for where, problem in problems:
        known = where
        while known and known not in lines:
            known = known[:-1]
        told.append((lines.get(known, 1), dotted(where), problem))
    if told:
        line, place, problem = min(told)
        raise ConfigurationError(f"{name}:{line}: {place}: {problem}")


def _first_problem(error: ValidationError, lines: Mapping[Place, int], name: str, document: type[BaseModel], secret: frozenset[str]) -> str:
    """Return the error that stands first in the file, in one line.

    Parameters
    ----------
    error : ValidationError
    lines : mapping of Place to int
        The line of every place, as `assembler.yaml.read_yaml` tells them.
    name : str
        The file's.
    document : type of BaseModel
        What the file was checked against.
    secret : frozenset of str
    """
    details = error.errors(include_url=False)
    # A keyword that is not known is often one that is missing, misspelt: the one that stands there is what to look at.
    strange = {problem["loc"][:-1] for problem in details if problem["type"] == "extra_forbidden"}
    problems = []
    for problem in details:
        missing = problem["type"] == "missing"
        if missing and problem["loc"][:-1] in strange:
            continue
        where: Place = tuple(part for part in problem["loc"] if part != "[key]")
        known = where[:-1] if missing else where
        while known and known not in lines:  # what pydantic adds to tell the members of a union apart
            known = known[:-1]
        told = f"{dotted(where if missing else known)}: {_expectation(problem, known, document, is_secret=not secret.isdisjoint(where))}"
        problems.append((lines.get(known, 1), told))
    line, told = min(problems)
    return f"{name}:{line}: {told}"


def _expectation(problem: Any, where: Place, document: type[BaseModel], *, is_secret: bool) -> str:
    """Say what was expected, and what is there."""
    kind, found = problem["type"], problem["input"]
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return f"is not known; expected {', '.join(_expected_keys(where[:-1], document))}"
    told = _EXPECTED.get(kind) or problem["msg"].removeprefix("Value error, ")
    if kind == "literal_error":
        told = f"expected {problem['ctx']['expected']}"
    return f"{told}, found {found!r}" if not is_secret and isinstance(found, str | int | float | bool) else told


def _expected_keys(where: Place, document: type[BaseModel]) -> list[str]:
    """Return the keys that the model at a path has."""
    model: Any = document
    for part in where:
        if isinstance(model, type) and issubclass(model, BaseModel):
            field = next(f for n, f in model.model_fields.items() if part in (n, f.alias))
            model = field.annotation
        else:  # a mapping or a list: what it has
            model = model.__args__[-1]
        for inner in getattr(model, "__args__", ()):  # X | None
            if isinstance(inner, type) and issubclass(inner, BaseModel) and type(None) in model.__args__:
                model = inner
    return [f.alias or n for n, f in model.model_fields.items()]
