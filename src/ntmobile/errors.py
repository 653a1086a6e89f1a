"""Every error a caller may catch."""


class NTMobileError(Exception):
    """Base of all errors raised on purpose."""

    remedy: str = ""
    """What a person is to do next; empty where that is not known."""


class DecodeError(NTMobileError):
    """Bytes from the network are not a valid message; always the peer's fault."""


class StateError(NTMobileError):
    """The local caller asked for something the current state forbids."""


class Remedy(NTMobileError):
    """Something failed in a way a person can mend: what is wrong, and what to do."""

    def __init__(self, problem: str, *, remedy: str = "") -> None:
        """Shown to the user as it is: the problem, then the command to run next."""
        super().__init__(f"{problem}\n{remedy}" if remedy else problem)
        self.problem = problem
        self.remedy = remedy
