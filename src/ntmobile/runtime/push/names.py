"""What settings say of push services; apart from what speaks to them, which takes long to read."""

from enum import StrEnum

SERVICES = (
    "fcm.googleapis.com",
    "updates.push.services.mozilla.com",
    "web.push.apple.com",
    "*.notify.windows.com",
)
"""The Web Push services of the browsers."""


class PushType(StrEnum):
    """How Apple treats a wake-up."""

    ALERT = "alert"
    """At once, with priority; the app's notification service extension gets it."""
    BACKGROUND = "background"
    """Shows nothing, and is delayed or dropped when the system finds there were many."""
