"""What the contract names and this version lacks: refused with a word, never accepted silently."""

from ntmobile.errors import Remedy


def not_built(what: str, instead: str) -> Remedy:
    """Say that a part is missing and what works today."""
    return Remedy(f"{what} is not built yet in this version", remedy=instead)
