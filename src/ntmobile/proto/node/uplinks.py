"""Which of a node's uplinks carries, and which other one still could.

Ours: docs/protocol.md section 8.
"""

from ntmobile.proto.node.events import LocalAddress


def left_standing(
    before: tuple[LocalAddress, ...], local: tuple[LocalAddress, ...], family: int, held: int
) -> int:
    """Return the interface that carried a family and could go on, though another is preferred now.

    held is the one that carries a tunnel although it is not preferred; 0 where there is none.
    """
    preferred = {address.interface for address in uplink(local, family)}
    carried = {held} if held else {address.interface for address in uplink(before, family)}
    stands = {(address.endpoint, address.interface) for address in local}
    if not preferred or carried & preferred:
        return 0
    same = (a for a in before if a.endpoint.version == family and a.interface in carried)
    return next((a.interface for a in same if (a.endpoint, a.interface) in stands), 0)


def uplink(local: tuple[LocalAddress, ...], family: int) -> frozenset[LocalAddress]:
    """Return what of an uplink decides where a family's packets leave from."""
    return frozenset(
        address for address in local if address.endpoint.version == family and address.preferred
    )
