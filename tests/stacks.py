"""Two nodes without servers: engines joined by a tunnel over loopback, each with a stack."""

from ntmobile._core import Engine, Stack

LOOPBACK = bytes([127, 0, 0, 1])
ALICE = bytes([100, 64, 0, 1]), bytes.fromhex("fd" + "00" * 14 + "01")
BOB = bytes([100, 64, 0, 2]), bytes.fromhex("fd" + "00" * 14 + "02")
KEYS = bytes([1]) * 32, bytes([2]) * 32
CIPHER = "aes-256-gcm"
MTU = 1400
INDICES = 7, 9
End = tuple[Engine, Stack]


def join(alice: End, bob: End) -> None:
    """Bring a tunnel up between two nodes, and give their stacks its addresses."""
    ends, names, keys = (alice, bob), (ALICE, BOB), (KEYS, KEYS[::-1])
    for here, there in ((0, 1), (1, 0)):
        engine, stack = ends[here]
        (own4, own6), (peer4, peer6) = names[here], names[there]
        index = INDICES[here]
        engine.open_tunnel(index, own_ipv4=own4, own_ipv6=own6, peer_ipv4=peer4, peer_ipv6=peer6)
        engine.install_keys(index, 0, CIPHER, *keys[here], INDICES[there])
        engine.activate_keys(index, 0)
        engine.set_path(index, LOOPBACK, ends[there][0].port, mtu=MTU)
        stack.set_addresses(own4, own6)
        for host in (peer4, peer6):
            stack.set_mtu(host, MTU)
        engine.attach_stack(stack)
