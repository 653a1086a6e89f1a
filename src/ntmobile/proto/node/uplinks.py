"""Which of a node's uplinks carries, which other one still could, and what a change of them means.

Ours: docs/protocol.md section 8.
"""

from ntmobile.proto.node.causes import Cause
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


def cause_of(
    before: tuple[LocalAddress, ...],
    local: tuple[LocalAddress, ...],
    held: int = 0,
    *,
    bare: bool = False,
) -> Cause:
    """Return what the addresses before and after a move of this node say.

    held is the interface that carried although it was not preferred, 0 for none; bare: in between
    there was no address at all.
    """
    carried = {held} if held else _preferred(before)
    now, stands = _preferred(local), {address.interface for address in local}
    if carried & now:
        known = {(address.endpoint, address.interface) for address in before}
        same = all((a.endpoint, a.interface) in known for a in local if a.interface in now)
        if bare:
            return Cause.UPLINK_BACK if same else Cause.NEW_NETWORK
        return Cause.ADDRESS_CHANGED
    if carried & stands:
        return Cause.BETTER_UPLINK
    there = {address.interface for address in before}
    return Cause.UPLINK_GONE if now and now <= there else Cause.NEW_NETWORK


def _preferred(local: tuple[LocalAddress, ...]) -> set[int]:
    return {address.interface for family in (4, 6) for address in uplink(local, family)}
