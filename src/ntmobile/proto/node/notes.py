"""What a tunnel leaves for the node that has it."""

from dataclasses import dataclass

from ntmobile.proto.node.events import HandoverDone, Pong, TunnelClosed
from ntmobile.wire.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class PathDead:
    """The node must negotiate a new path."""

    fqdn: str
    avoid: tuple[Endpoint, ...] = ()
    """The RS that is the reason, by its addresses."""


@dataclass(frozen=True, slots=True)
class PathDoubted:
    """RS says that it forwards nothing from here: it must be shown where this node is."""

    fqdn: str


Note = HandoverDone | TunnelClosed | Pong | PathDead | PathDoubted
