"""YAML with the line of every value, so that an error can say where to look; a key that stands twice is an error."""

import re
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from assembler.errors import ConfigurationError

MOST_NODES = 200_000
"""Nodes that a file may have, its aliases written out."""

DEEPEST = 50
"""Levels that a file may have; one whose alias stands within itself would have no end of them."""

_MOST_BRACKETS = 1000
_LONGEST_LINE = 5000

Place = tuple[str | int, ...]


def read_yaml(text: str, name: str) -> tuple[Any, Mapping[Place, int]]:
    """Return what a YAML document says as plain values, and the line of each by its place.

    Keys are text as it stands, so that ``02`` stays ``02``; of the values only true, false, null and plain decimal numbers
    are anything else.

    Raises
    ------
    ConfigurationError
        In one line: file, line, and what was expected.
    """
    _check_depth(text, name)
    try:
        root = YAML(typ="safe", pure=False).compose(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigurationError(f"{name}:{line}: is no YAML: {error.problem or error.context}") from None
    except RecursionError:
        raise ConfigurationError(f"{name}:1: is nested in more than {DEEPEST} levels") from None
    except YAMLError as error:
        raise ConfigurationError(f"{name}:1: is no YAML: {' '.join(str(error).split())}") from None
    lines: dict[Place, int] = {}
    return _plain(root, (), lines, name), lines


def _check_depth(text: str, name: str) -> None:
    """Refuse what is nested so deeply that it would take the parser's stack, which nobody could catch."""
    depth = 0
    for number, line in enumerate(text.splitlines(), 1):
        depth = max(0, depth + line.count("[") + line.count("{") - line.count("]") - line.count("}"))
        if depth > _MOST_BRACKETS or len(line) > _LONGEST_LINE:
            told = f"has a line of more than {_LONGEST_LINE} characters, or more than {_MOST_BRACKETS} open brackets"
            raise ConfigurationError(f"{name}:{number}: {told}")


def _plain(node: Node | None, where: Place, lines: dict[Place, int], name: str) -> Any:
    if node is None:
        return None
    lines.setdefault(where, node.start_mark.line + 1)
    if len(where) > DEEPEST:
        raise ConfigurationError(f"{name}:{node.start_mark.line + 1}: is nested in more than {DEEPEST} levels, or within itself")
    if len(lines) > MOST_NODES:
        raise ConfigurationError(f"{name}: has more than {MOST_NODES} nodes")
    if isinstance(node, SequenceNode):
        return [_plain(item, (*where, index), lines, name) for index, item in enumerate(node.value)]
    if isinstance(node, MappingNode):
        result: dict[str, Any] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, ScalarNode):
                raise ConfigurationError(f"{name}:{line}: {dotted(where)}: expected a word as key")
            inside = (*where, key.value)
            if key.value in result:
                told = f"the key {key.value!r} stands here again; expected it once, it is in line {lines[inside]}"
                raise ConfigurationError(f"{name}:{line}: {dotted(inside)}: {told}")
            lines[inside] = line
            result[key.value] = _plain(value, inside, lines, name)
        return result
    return _scalar(node)


def _scalar(node: Node) -> Any:
    kind, text = str(node.tag).rsplit(":", 1)[-1], node.value
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if kind == "int" and re.fullmatch(r"[+-]?\d{1,18}", text):
        return int(text)
    if kind == "float" and re.fullmatch(r"[+-]?[\d.]+(?:[eE][+-]?\d+)?", text):
        return float(text)
    return text


def dotted(place: Place) -> str:
    """Return a place as a person writes it.

    >>> dotted(("origins", "green", "extensions", 0))
    'origins.green.extensions[0]'
    """
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return text.removeprefix(".") or "the document"
