"""The L0 assembler: makes of what each camera of an instrument wrote the one FITS file that an archive keeps.

Names are imported when they are first used, so that ``assembler --help`` is quick.

>>> from assembler import l0_name
>>> l0_name.__module__
'assembler.core.plan'
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "AssemblerError": "assembler.errors",
    "Plan": "assembler.core.plan",
    "assemble": "assembler.service.pipeline",
    "find_given": "assembler.service.finder",
    "find_night": "assembler.service.finder",
    "l0_name": "assembler.core.plan",
    "load_corrections": "assembler.corrections",
    "load_instrument": "assembler.config",
    "open_history": "assembler.telemetry.history",
    "plan_exposure": "assembler.service.pipeline",
    "plan_l0": "assembler.core.plan",
    "verify_file": "assembler.fits.verifier",
}

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604 - the names are the keys of the table above


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
