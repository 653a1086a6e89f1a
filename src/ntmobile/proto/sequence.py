"""Which steps of a journal make one sequence: a login and registration, or a tunnel's set-up.

A step knows its negotiation, or that of the question it answers. Key Sharing and Hole Punching know
none; they are taken with what surrounds them, so where several tunnels are built at the same moment
one may stand in the wrong sequence.
Source: paper, Figs. 2 to 7.
"""

from collections.abc import Sequence
from typing import Protocol, TypeVar

LOGIN = ("Nonce Request", "Nonce", "Login Request", "Login Response", "Login Refusal")
REGISTRATION = (
    "Registration Request",
    "Registration Response",
    "Notification Registration",
    "UDP Keep Alive",
    "TCP Keep Alive",
    "Keep Alive Answer",
)
BETWEEN_SERVERS = ("Key Distribution", "Key Sharing", "Notification Direction")
BARE = ("NTM ACK", "Challenge", "Hole Punching", "Key Sharing")
"""What may name no negotiation and belongs to the one around it: Key Sharing and what is said to RS
under Ktun, with their acknowledgements."""
MOST_STEPS = 96
"""Of one chart."""


class Noted(Protocol):
    """A step of a journal, by whatever clock."""

    @property
    def message(self) -> str:
        """The paper's name."""
        ...

    @property
    def here(self) -> str:
        """Who noted it."""
        ...

    @property
    def there(self) -> str:
        """The other end."""
        ...

    @property
    def sent(self) -> bool:
        """Or it came."""
        ...

    @property
    def detail(self) -> str:
        """The negotiation (hex) or the FQDN it belongs to."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """The nodes it names."""
        ...


S = TypeVar("S", bound=Noted)


def negotiation(steps: Sequence[S], *nodes: str) -> list[S]:
    """Return the newest negotiation in which all these nodes appear, oldest step first.

    The hexadecimal name of a negotiation stands for itself.
    """
    about: dict[str, set[str]] = {}
    for step in steps:
        if is_negotiation(step.detail):
            found = about.setdefault(step.detail, {step.detail})
            found |= {step.here, step.there, *step.names}
    wanted = set(nodes)
    newest = next((name for name in reversed(about) if wanted <= about[name]), None)
    return [] if newest is None else of_negotiation(steps, newest)


def of_negotiation(steps: Sequence[S], name: str) -> list[S]:
    """Return the steps of a negotiation, and the bare ones of its participants in between."""
    mine = [number for number, step in enumerate(steps) if step.detail == name]
    if not mine:
        return []
    theirs = {steps[number].there for number in mine} | {"RS", "DCcn", "DCmn"}
    chosen = [
        step
        for step in steps[mine[0] : mine[-1] + 1]
        if step.detail == name or (_is_bare(step) and step.there in theirs)
    ]
    return chosen[-MOST_STEPS:]


def standing(steps: Sequence[S], node: str) -> list[S]:
    """Return the newest login of a node and the registration that followed.

    Ends with the first answered keep-alive, by UDP or TCP. Who saw no login tells the newest
    registration.
    """
    last = max((n for n, step in enumerate(steps) if _is_login_of(step, node)), default=None)
    chosen = [] if last is None else _nonce_before(steps, last)
    first = _registration_before_the_last_answer(steps, node) if last is None else last
    for step in steps[first:]:
        if len(chosen) >= MOST_STEPS:
            break
        if _is_of(step, node) or (step.message in BARE and _is_at_a_server(step, node)):
            chosen.append(step)
        if chosen and chosen[-1] is step and _answers_a_keep_alive(chosen):
            break
    return chosen


def is_negotiation(detail: str) -> bool:
    """Whether a step's detail names a negotiation."""
    return len(detail) == 32 and "." not in detail


def _is_login_of(step: Noted, node: str) -> bool:
    return step.message == "Login Request" and (step.here == node or _names(step, node))


def _is_of(step: Noted, node: str) -> bool:
    if step.message in LOGIN:
        return step.here == node or _names(step, node) or step.message == "Login Refusal"
    if step.message == "Challenge":
        asked = step.there == node or (step.here == node and step.there in ("DC", "NS"))
        return asked and not is_negotiation(step.detail)
    known = step.message in (*REGISTRATION, *BETWEEN_SERVERS)
    return known and (node in (step.here, step.there) or _names(step, node))


def _is_bare(step: Noted) -> bool:
    return step.message in BARE and not is_negotiation(step.detail)


def _is_at_a_server(step: Noted, node: str) -> bool:
    """Whether a bare step may belong to a login (at the AS) or a registration (with an NS)."""
    named = (step.here, step.there) == ("AS", "DC") and _names(step, node)
    return named or step.there == "NS" or (step.here, step.there) == ("NS", node)


def _answers_a_keep_alive(chosen: Sequence[Noted]) -> bool:
    """Whether the last step is the answer to a keep-alive."""
    kept = any(step.message == "TCP Keep Alive" for step in chosen)
    last = chosen[-1].message
    return last == "Keep Alive Answer" or (kept and last == "NTM ACK")


def _names(step: Noted, node: str) -> bool:
    """Whether a step names a node; a Login Request names it without its domain."""
    return any(node == name or node.startswith(f"{name}.") for name in step.names)


def _nonce_before(steps: Sequence[S], last: int) -> list[S]:
    """The nonce that a login was made with: the newest of the same participant before it."""
    found: list[S] = []
    for step in reversed(steps[:last]):
        if step.here == steps[last].here and step.message in ("Nonce", "Nonce Request"):
            found.insert(0, step)
        if found and found[0].message == "Nonce Request":
            break
    return found


def _registration_before_the_last_answer(steps: Sequence[Noted], node: str) -> int:
    """Where the newest registration begins: with its key, or after the keep-alives before it."""
    first = len(steps)
    answered = False
    for number in range(len(steps) - 1, -1, -1):
        step = steps[number]
        if not _is_of(step, node):
            continue
        answered = answered or step.message == "Registration Response"
        if answered and "Keep Alive" in step.message:
            break
        first = number
        if step.message == "Key Distribution":
            break
    return first
