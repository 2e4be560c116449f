"""Run the command line: ``assembler`` or ``python -m assembler``."""

import os
import sys

# Both only make the start quicker: nothing here multiplies matrices, and no plugin of pydantic is wanted.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

from assembler.cli import run


def main() -> None:
    """Run a command and exit with its code."""
    sys.exit(run())


if __name__ == "__main__":
    main()
