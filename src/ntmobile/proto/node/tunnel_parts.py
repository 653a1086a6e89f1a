"""What the tunnels of one node share."""

from collections.abc import Callable
from dataclasses import dataclass

from ntmobile.keys.table import Keyring
from ntmobile.proto.io import Entropy
from ntmobile.proto.journal import Journal
from ntmobile.proto.node.events import Observations
from ntmobile.proto.node.whereabouts import NOWHERE, Surroundings
from ntmobile.wire.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class TunnelParts:
    """What a tunnel takes from its node."""

    observations: Observations
    entropy: Entropy
    keyring: Keyring
    journal: Journal
    mtu: Callable[[Endpoint], int]
    """The largest inner packet to a remote that this end's links carry, in bytes."""
    idle_ns: int
    """A tunnel that carried nothing for so long closes."""
    surroundings: Surroundings = NOWHERE
    """Where the node may be reached, for the search of a direct path."""
