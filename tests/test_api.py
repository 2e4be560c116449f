"""The public names: whoever imports them may rely on them."""

import tomllib
from pathlib import Path

import pytest

import assembler


def test_the_public_names_are_these_and_can_be_imported():
    assert sorted(assembler.__all__) == [
        "AssemblerError", "Plan", "__version__", "assemble", "find_given", "find_night", "l0_name", "load_corrections", "load_instrument",
        "open_history", "plan_exposure", "plan_l0", "verify_file",
    ]  # fmt: skip
    assert all(getattr(assembler, name) for name in assembler.__all__)


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nonsense"):
        _ = assembler.nonsense


def test_the_version_is_told_once():
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    assert project["version"] == assembler.__version__
