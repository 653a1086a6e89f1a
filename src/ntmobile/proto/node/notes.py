"""What a tunnel leaves for the node that has it."""

from dataclasses import dataclass

from ntmobile.proto.node.events import HandoverDone, Pong, TunnelClosed


@dataclass(frozen=True, slots=True)
class PathDead:
    """The node must negotiate a new path."""

    fqdn: str


@dataclass(frozen=True, slots=True)
class PathDoubted:
    """RS says that it forwards nothing from here: it must be shown where this node is."""

    fqdn: str


Note = HandoverDone | TunnelClosed | Pong | PathDead | PathDoubted
