"""Why a tunnel goes another way: the words of `ntm handovers`.

A node knows of its own moves what its addresses tell; of all else what the path and the peer do.
Ours: docs/protocol.md section 8.
"""

from enum import StrEnum


class Cause(StrEnum):
    """What began a handover."""

    NEW_NETWORK = "new-network"
    """This node is in another network, or on an uplink that it did not have before."""
    ADDRESS_CHANGED = "address-changed"
    """The same uplink has another address, and was never without one."""
    UPLINK_GONE = "uplink-gone"
    """An uplink went, and another one that was there already carries on."""
    BETTER_UPLINK = "better-uplink"
    """A better uplink came, though the old one still stands."""
    UPLINK_BACK = "uplink-back"
    """No uplink was left, and the same address came back."""
    UDP_BLOCKED = "udp-blocked"
    """UDP does not pass here: datagrams go by WebSocket."""
    UDP_PASSES = "udp-passes"
    """UDP passes again."""
    WOKE_UP = "woke-up"
    """This machine slept."""
    NAT_REBOOTED = "nat-rebooted"
    """The NAT of either end maps it elsewhere, though nobody moved."""
    MAPPING_AGED = "mapping-aged"
    """A mapping was about to die of age, and the peer did not answer by the next one."""
    PATH_DIED = "path-died"
    """Nothing came through any more; the peer was asked for by the servers, or RS took over."""
    RELAY_DIED = "relay-died"
    """RS fell silent, or had forgotten this tunnel."""
    PEER_MOVED = "peer-moved"
    """The peer told that it is reached elsewhere."""


OWN = frozenset(Cause) - {
    Cause.NAT_REBOOTED,
    Cause.MAPPING_AGED,
    Cause.PATH_DIED,
    Cause.RELAY_DIED,
    Cause.PEER_MOVED,
}
"""What happens to this node; the others happen to the path or to the peer."""
