"""What an application can catch: a Remedy for people, and the system's own error for programs."""

import errno
import os

from ntmobile.errors import Remedy


class NameFailed(Remedy, OSError):
    """There is no tunnel to a name, and why; libraries catch it as an OSError."""

    def __init__(self, problem: str, *, remedy: str = "") -> None:
        """Bears EHOSTUNREACH, whatever the reason: nobody but this node may tell them apart."""
        Remedy.__init__(self, problem, remedy=remedy)
        self.errno = errno.EHOSTUNREACH
        self.strerror = problem


def system_error(number: int) -> OSError:
    """Return the error that the system's own sockets would raise."""
    return OSError(number, os.strerror(number))
