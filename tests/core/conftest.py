"""What many tests of the core need."""

from collections.abc import Callable, Mapping

import memory
import pytest

from assembler.core.exposure import SubFits, collect
from assembler.core.plan import Plan
from assembler.core.samples import Answers


@pytest.fixture
def plan(kpf) -> Callable[..., Plan]:
    """Return what plans a KPF exposure of given sub-FITS."""

    def make(subs: Mapping[str, SubFits], answers: Answers | None = None) -> Plan:
        return memory.plan_of(kpf, collect(kpf, subs), answers)

    return make
