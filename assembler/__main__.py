"""Run the command line: ``assembler`` or ``python -m assembler``."""

import os
import signal
import sys

# Both only make the start quicker: nothing here multiplies matrices, and no plugin of pydantic is wanted.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")


def main() -> None:
    """Run a command and exit with its code."""
    _complete_streams()
    try:
        from assembler.cli import run

        code = run()
    except KeyboardInterrupt:  # before, or after, there was anything to stop
        code = 130
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # one more is no news while Python takes itself apart
    try:
        sys.stderr.flush()
    except OSError:  # nobody takes it; Python would end with an exit code of its own, 120
        from assembler import console

        console.give_up(sys.stderr)
    sys.exit(code)


def _complete_streams() -> None:
    """Have standard output and standard error lead somewhere, if they are closed.

    Otherwise the next file that is opened, be it an L0, would be the one that whoever tells of errors writes to.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, which is this one
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - as long as the program
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


if __name__ == "__main__":
    main()
