"""NTMobile: sockets that reach a name and survive a move."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ntmobile._core import __version__

if TYPE_CHECKING:
    from ntmobile import vpn
    from ntmobile.sockets import blocking
    from ntmobile.sockets.node import Node

__all__ = ["Node", "__version__", "blocking", "vpn"]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    # Imported when it is used: `ntm` and the servers need nothing of it.
    if name == "Node":
        from ntmobile.sockets.node import Node

        return Node
    if name == "blocking":
        from ntmobile.sockets import blocking

        return blocking
    if name == "vpn":
        return import_module("ntmobile.vpn")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
