"""What can go wrong with the lab itself."""

from ntmobile.errors import NTMobileError


class LabError(NTMobileError):
    """The lab could not be built, or a command in it failed; always the caller's."""


class LabUnavailable(LabError):
    """This machine cannot run a lab; the message says what is missing."""
