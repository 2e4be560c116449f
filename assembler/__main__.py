"""Run the command line: ``assembler`` or ``python -m assembler``."""

import os
import sys

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy starts twice as fast, and nothing here multiplies matrices

from assembler.cli import run  # noqa: E402


def main() -> None:
    """Run a command and exit with its code."""
    sys.exit(run())


if __name__ == "__main__":
    main()
