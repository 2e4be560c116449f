"""Findings: the list of codes is one that can be relied on."""

import re

from assembler.core.exposure import REASONS
from assembler.core.findings import CODES, SETTLED_IN_YAML, finding, has_errors


def test_codes_are_words_with_a_meaning_and_a_severity():
    for code, (severity, meaning) in CODES.items():
        assert re.fullmatch(r"[a-z]+(-[a-z0-9]+)*", code)
        assert severity in ("info", "warning", "error")
        assert meaning.endswith(".")


def test_codes_that_are_named_elsewhere_are_in_the_list():
    assert set(CODES) >= SETTLED_IN_YAML
    assert set(CODES) >= set(REASONS)


def test_only_errors_are_errors():
    assert has_errors((finding("absent", ""), finding("truncated", "")))
    assert not has_errors((finding("absent", ""),))
