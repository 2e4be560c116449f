"""Every way in which the assembler cannot finish, as one tree.

::

    AssemblerError            exit   whose fault it is                           a retry helps
    ├── ConfigurationError    2      the YAML, a setting or the command line     no
    ├── InputError            3      a sub-FITS, or that there is none           when it was still growing
    ├── OutputError           4      the output directory or its disk            when there is room again
    │   ├── TakenError        4      another L0 has the name                     no
    │   └── GoneError         4      another assembler gave the L0 another name  yes, at once
    ├── TelemetryError        5      the keyword history                         when the server is back
    ├── DeliveryError         4      a receiver of announcements                 when it is there again
    └── VerificationError     1      an L0 that is not what was planned          no

What an observer should merely know is a finding (`assembler.core.findings`), not an exception.
"""


class AssemblerError(Exception):
    """Something that keeps an L0 from being made; its text is one line that says what, where and what to do."""

    exit_code = 1
    retry = False


class ConfigurationError(AssemblerError):
    """The instrument's YAML, a setting or the command line is wrong."""

    exit_code = 2


class InputError(AssemblerError):
    """A sub-FITS cannot be used.

    Parameters
    ----------
    message : str
        What is wrong, with the file and the HDU.
    path : str
        The sub-FITS, or the empty string when it is about none in particular.
    reason : str
        Why its origin has to be left out, one of `assembler.core.exposure.REASONS`.
    retry : bool
        True when the same call may succeed later.
    """

    exit_code = 3

    def __init__(self, message: str, *, path: str = "", reason: str = "unreadable", retry: bool = False) -> None:
        super().__init__(message)
        self.path = path
        self.reason = reason
        self.retry = retry


class OutputError(AssemblerError):
    """The L0 cannot be written, or its name is taken.

    Parameters
    ----------
    message : str
        What is wrong, with the file or the directory.
    retry : bool
        False when somebody has to look first, because another file has the name; a disk may have room again.
    """

    exit_code = 4

    def __init__(self, message: str, *, retry: bool = True) -> None:
        super().__init__(message)
        self.retry = retry


class TakenError(OutputError):
    """The name of an L0 has a file that is not what would be made now, and nobody said that it is to be superseded.

    Parameters
    ----------
    message : str
    path : str
        The file that has the name.
    difference : str
        What differs, as far as is known.
    """

    def __init__(self, message: str, *, path: str, difference: str = "") -> None:
        super().__init__(f"{message} ({difference})" if difference else message, retry=False)
        self.path = path
        self._message = message

    def differing(self, difference: str) -> "TakenError":
        """Return the same with what differs in other words."""
        return TakenError(self._message, path=self.path, difference=difference)


class GoneError(OutputError):
    """An L0 that was there a moment ago has not its name any more: its exposure was given another one meanwhile."""


class TelemetryError(AssemblerError):
    """The keyword history cannot be opened, read or written.

    Parameters
    ----------
    message : str
        What is wrong, with the history's name, never with a password.
    retry : bool
        True when a server was away, so that the same question may be answered soon.
    """

    exit_code = 5

    def __init__(self, message: str, *, retry: bool = False) -> None:
        super().__init__(message)
        self.retry = retry


class DeliveryError(AssemblerError):
    """A receiver did not take an announcement.

    Parameters
    ----------
    message : str
        Why, without any secret.
    retry : bool
        False when it refused this message for good.
    """

    exit_code = 4

    def __init__(self, message: str, *, retry: bool = True) -> None:
        super().__init__(message)
        self.retry = retry


class VerificationError(AssemblerError):
    """A file is not what it should be; nothing is published.

    Parameters
    ----------
    message : str
        What differs, with the file and the HDU.
    extension : str
        The HDU at which a stranger stopped, or the empty string when that is not the trouble, or not known.
    """

    exit_code = 1

    def __init__(self, message: str, *, extension: str = "") -> None:
        super().__init__(message)
        self.extension = extension
