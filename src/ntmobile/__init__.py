"""NTMobile: sockets that reach a name and survive a move."""

from ntmobile._core import __version__

__all__ = ["__version__"]
