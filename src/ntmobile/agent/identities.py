"""Which of several identities a person means.

An identity is one USER@DOMAIN that somebody has logged in to on this machine; one agent holds
several, side by side. Ours: docs/node.md, "Several identities".
"""

from collections.abc import Iterable

from ntmobile.agent.records import SavedAccount
from ntmobile.errors import Remedy


def named(word: str, accounts: Iterable[SavedAccount]) -> SavedAccount:
    """Return the account that a person means; raises Remedy.

    USER@DOMAIN, or its node's name, or what is enough of it: the domain, or the user.
    """
    ones, meant = tuple(accounts), word.lower().rstrip(".")
    for part in ("who", "fqdn", "domain", "user"):
        found = [each for each in ones if getattr(each, part) == meant]
        if len(found) == 1:
            return found[0]
        if found:
            raise ambiguous(found)
    others = f": here are {_list(ones)}" if ones else ""
    raise Remedy(f"there is no identity {word!r} here{others}", remedy="ntm status")


def ambiguous(accounts: Iterable[SavedAccount], name: str | None = None) -> Remedy:
    """Say that one of several identities must be named; a name that was asked for did not tell."""
    ones = tuple(accounts)
    whose = f", and {name} may be a name for either" if name else ""
    return Remedy(
        f"several identities are here: {_list(ones)}{whose}",
        remedy=f"say which one is meant: the same command with --identity {ones[-1].who}",
    )


def _list(accounts: Iterable[SavedAccount]) -> str:
    return ", ".join(account.who for account in accounts)
