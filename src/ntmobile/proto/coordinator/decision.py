"""Which way the first packets take: pure, from what both ends registered.

Rows, in this order (docs/protocol.md section 7)::

    MN          CN          first path
    no common family        a dual-stack RS
    UDP blocked at either   RS
    either is relay-only    RS
    same mapped address     private addresses and RS at once; the first answer wins
    any         reachable   MN sends the Tunnel Request, CN awaits
    reachable   not         CN sends it: paper, Fig. 6
    not         not         through RS: paper, Fig. 7
"""

from dataclasses import dataclass

import msgspec

from ntmobile.proto.coordinator.settings import Relay
from ntmobile.wire.direction import Cipher, NodeInformation, Purpose, Role
from ntmobile.wire.endpoint import Endpoint

MOST_A_FAMILY = 4
"""Of each kind of address of an end; two ends' worth and two names fit one datagram."""
MOST_BESIDE = ((256, MOST_A_FAMILY), (400, 2))
"""The same beside a certificate (and a succession) of that many bytes; one beside a longer."""
MOST_GROUP_BYTES = 256
"""Shared with the certificate: no node reads the groups of its peer."""
SUCCESSION_BYTES = 102


def trimmed(node: NodeInformation) -> NodeInformation:
    """Leave out what is too much to tell in one datagram; the best addresses come first."""
    proof = len(node.identity.certificate) + (SUCCESSION_BYTES if node.identity.succession else 0)
    most = next((most for size, most in MOST_BESIDE if proof <= size), 1)
    groups, room = [], MOST_GROUP_BYTES - proof
    for group in node.groups:
        room -= len(group.encode()) + 2
        if room >= 0:
            groups.append(group)
    return msgspec.structs.replace(
        node,
        mapped=_first(node.mapped, 1),
        local=_first(node.local, most),
        reachable=_first(node.reachable, most),
        groups=tuple(groups),
    )


@dataclass(frozen=True, slots=True)
class Decision:
    """Who sends the Tunnel Request, where to, and through which RS."""

    sender: Role
    targets: tuple[Endpoint, ...]
    relay: Relay | None


def decide(
    mn: NodeInformation, cn: NodeInformation, relays: tuple[Relay, ...], purpose: Purpose
) -> Decision | None:
    """Return the first path, or None where only an RS would do and none fits."""
    relay = next((relay for relay in relays if _serves(relay, mn) and _serves(relay, cn)), None)
    through_relay = None if relay is None else Decision(Role.MN, (), relay)
    if purpose is Purpose.RELAY or not _families(mn) & _families(cn):
        return through_relay
    if is_web(mn) or is_web(cn) or _hides(mn) or _hides(cn):
        return through_relay
    if same_mapped(mn, cn) and (targets := _common(cn.local, _families_of(mn.local))):
        return Decision(Role.MN, targets, relay)
    if targets := _common(cn.reachable, _families(mn)):
        return Decision(Role.MN, targets, None)
    if targets := _common(mn.reachable, _families(cn)):
        return Decision(Role.CN, targets, None)
    return through_relay


def same_mapped(mn: NodeInformation, cn: NodeInformation) -> bool:
    """Whether both are seen at one address: behind the same NAT."""
    if is_web(mn) or is_web(cn):
        return False
    hosts = {endpoint.host for endpoint in mn.mapped if endpoint not in mn.local}
    return any(endpoint.host in hosts for endpoint in cn.mapped if endpoint not in cn.local)


def choose_cipher(mn: NodeInformation, cn: NodeInformation) -> Cipher:
    """AES-256-GCM where both ends put it first, else ChaCha20-Poly1305."""
    firsts = {mn.ciphers[:1], cn.ciphers[:1]}
    return Cipher.AES_256_GCM if firsts == {(Cipher.AES_256_GCM,)} else Cipher.CHACHA20_POLY1305


def is_web(node: NodeInformation) -> bool:
    """Whether UDP is blocked where the node is: it reaches servers in a WebSocket only."""
    return any(endpoint.is_web for endpoint in node.mapped)


def _hides(node: NodeInformation) -> bool:
    """Whether the node tells no address: then none may show by its sending either."""
    return any(endpoint.host.is_unspecified for endpoint in node.mapped)


def _families(node: NodeInformation) -> set[int]:
    return _families_of(node.mapped)


def _families_of(endpoints: tuple[Endpoint, ...]) -> set[int]:
    return {endpoint.version for endpoint in endpoints}


def _common(endpoints: tuple[Endpoint, ...], families: set[int]) -> tuple[Endpoint, ...]:
    """Those of a common family, IPv6 first."""
    common = [endpoint for endpoint in endpoints if endpoint.version in families]
    return tuple(sorted(common, key=lambda endpoint: -endpoint.version))


def _first(endpoints: tuple[Endpoint, ...], most: int) -> tuple[Endpoint, ...]:
    """The first of each family, in their order."""
    kept: list[Endpoint] = []
    for endpoint in endpoints:
        if sum(other.version == endpoint.version for other in kept) < most:
            kept.append(endpoint)
    return tuple(kept)


def _serves(relay: Relay, node: NodeInformation) -> bool:
    # A WebSocket leads to RS over any family, perhaps through a proxy's.
    return is_web(node) or bool(_families_of(relay.endpoints) & _families(node))
