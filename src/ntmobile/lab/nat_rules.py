"""The nftables rules that make Linux a NAT of a given behaviour.

Linux's own masquerade maps per connection. What RFC 4787 calls a mapping is kept
here in maps beside it, filled by the packets themselves as they leave:

=============  ==============================================  ====================
``mapping``    inside endpoint (. destination address)         outside port
``reverse``    outside port                                    inside endpoint
``taken``      outside port
``owned``      outside port . everything its mapping depends on
``contacted``  outside port . destination address (. port)
=============  ==============================================  ====================

A new connection of an inside endpoint that has a mapping gets that outside port
(chain ``translate``); a packet from outside that the filtering admits is handed to
the inside endpoint of the mapping (chain ``admit``). A drawn port that belongs to
another mapping is not used: the packet is dropped, its retransmission draws another.

Hairpinned packets (RFC 4787 REQ-9, external source) are judged behind the source
translation, where their outside port is known, and leave their trace in
``contacted`` even when they are refused, so that two machines can punch.

Within a connection that came in through the filter, answers keep its outside port,
whatever the mapping behaviour: that is how a NAT that tracks connections works.
"""

from ipaddress import IPv4Address

from ntmobile.lab.behaviour import Behaviour, Filtering, IPv6Service, Mapping, Ports

WAN = "wan"
LAN = "lan"

FROM_LAN = "meta mark 1"
FROM_WAN = "meta mark 2"
"""Set where packets are forwarded: behind it, the interface they came in by is not
known for those that leave by the same one."""

FIRST_SEQUENTIAL_PORT = 20_000
SEQUENTIAL_PORTS = 4096
"""The counter wraps after so many; each is one element of a map."""

SET_SIZE = 65_536

_ENDPOINT = "ipv4_addr . inet_service"

_KEY_TYPES = {
    Mapping.ENDPOINT_INDEPENDENT: _ENDPOINT,
    Mapping.ADDRESS_DEPENDENT: f"{_ENDPOINT} . ipv4_addr",
    Mapping.ADDRESS_AND_PORT_DEPENDENT: f"{_ENDPOINT} . {_ENDPOINT}",
}
_NEW_KEYS = {
    Mapping.ENDPOINT_INDEPENDENT: "ip saddr . udp sport",
    Mapping.ADDRESS_DEPENDENT: "ip saddr . udp sport . ip daddr",
    Mapping.ADDRESS_AND_PORT_DEPENDENT: ("ip saddr . udp sport . ip daddr . udp dport"),
}
_INSIDE = "ct original ip saddr . ct original proto-src"
_DIALLED = "ct original ip daddr"
_KEYS = {
    Mapping.ENDPOINT_INDEPENDENT: _INSIDE,
    Mapping.ADDRESS_DEPENDENT: f"{_INSIDE} . {_DIALLED}",
    Mapping.ADDRESS_AND_PORT_DEPENDENT: (f"{_INSIDE} . {_DIALLED} . ct original proto-dst"),
}


def rules(behaviour: Behaviour, outside: IPv4Address) -> str:
    """Return the whole ruleset of a NAT whose outside address is `outside`."""
    return "\n".join(
        [
            "flush ruleset",
            "table ip lab {",
            *_sets(behaviour),
            *_admit(behaviour, outside),
            *_translate(behaviour, outside),
            *_record(behaviour),
            *_forward(behaviour, outside),
            "}",
            *_ipv6(behaviour),
            "",
        ]
    )


def _sets(behaviour: Behaviour) -> list[str]:
    key = _KEY_TYPES[behaviour.mapping]
    remote = _ENDPOINT if _filters_ports(behaviour) else "ipv4_addr"
    life = f"timeout {behaviour.udp_lifetime_s}s"
    options = f"flags dynamic,timeout; {life}; size {SET_SIZE};"
    return [
        f"map mapping {{ type {key} : inet_service; {options} }}",
        f"map reverse {{ type inet_service : {_ENDPOINT}; {options} }}",
        f"set taken {{ type inet_service; {options} }}",
        f"set owned {{ type inet_service . {key}; {options} }}",
        f"set contacted {{ type inet_service . {remote}; {options} }}",
    ]


def _admit(behaviour: Behaviour, outside: IPv4Address) -> list[str]:
    head = f"meta l4proto udp ip daddr {outside} udp dport @taken"
    to_inside = "dnat ip to udp dport map @reverse"
    match behaviour.filtering:
        case Filtering.ENDPOINT_INDEPENDENT:
            condition = ""
        case Filtering.ADDRESS_DEPENDENT:
            condition = "udp dport . ip saddr @contacted"
        case Filtering.ADDRESS_AND_PORT_DEPENDENT:
            condition = "udp dport . ip saddr . udp sport @contacted"
    lines = [f"iifname {WAN} {head} {condition} {to_inside}"]
    if behaviour.hairpin:
        lines.append(f"iifname {LAN} {head} {to_inside}")
    return _chain("admit", "type nat hook prerouting priority dstnat;", lines)


def _translate(behaviour: Behaviour, outside: IPv4Address) -> list[str]:
    inside = f"meta l4proto udp {FROM_LAN}"
    lines = []
    if behaviour.mapping is not Mapping.ADDRESS_AND_PORT_DEPENDENT:
        key = _NEW_KEYS[behaviour.mapping]
        lines.append(f"{inside} snat ip to {outside} : {key} map @mapping")
    match behaviour.ports:
        case Ports.PRESERVED:
            lines.append(f"{inside} udp sport != @taken snat ip to {outside}")
        case Ports.RANDOM:
            pass
        case Ports.SEQUENTIAL:
            lines.append(f"{inside} snat ip to {outside} : {_next_port()}")
    lines.append(f"{inside} snat ip to {outside}:1024-65535 random")
    lines.append(f"oifname {WAN} {FROM_LAN} snat ip to {outside}")
    return _chain("translate", "type nat hook postrouting priority srcnat;", lines)


def _next_port() -> str:
    # A map, because the counter itself would be taken in the wrong byte order.
    ports = (f"{n} : {FIRST_SEQUENTIAL_PORT + n}" for n in range(SEQUENTIAL_PORTS))
    return f"numgen inc mod {SEQUENTIAL_PORTS} map {{ {', '.join(ports)} }}"


def _record(behaviour: Behaviour) -> list[str]:
    """Record what leaves; both chains run for every packet, not the first only."""
    lines = [
        f"{FROM_LAN} ct direction original jump opened_inside",
        f"{FROM_WAN} ct direction reply jump opened_inside",
        f"{FROM_LAN} ct direction reply jump opened_outside",
    ]
    if behaviour.hairpin:
        lines += _refuse_hairpinned(behaviour)
    return [
        *_chain("opened_inside", "", _opened_inside(behaviour)),
        *_chain("opened_outside", "", _opened_outside(behaviour)),
        *_chain(
            "record",
            "type filter hook postrouting priority srcnat + 10;",
            [f"meta l4proto udp {line}" for line in lines],
        ),
    ]


def _opened_inside(behaviour: Behaviour) -> list[str]:
    key, port = _KEYS[behaviour.mapping], "ct reply proto-dst"
    remote = _DIALLED
    if _filters_ports(behaviour):
        remote += " . ct original proto-dst"
    lines = [
        f"{port} @taken {port} . {key} != @owned drop",
        f"update @reverse {{ {port} : {_INSIDE} }}",
        f"update @taken {{ {port} }}",
        f"update @owned {{ {port} . {key} }}",
        f"update @contacted {{ {port} . {remote} }}",
    ]
    if behaviour.mapping is not Mapping.ADDRESS_AND_PORT_DEPENDENT:
        lines.append(f"update @mapping {{ {key} : {port} }}")
    return [f"meta l4proto udp {line}" for line in lines]


def _opened_outside(behaviour: Behaviour) -> list[str]:
    port, inside = "ct original proto-dst", "ct reply ip saddr . ct reply proto-src"
    remote = "ct reply ip daddr"
    if _filters_ports(behaviour):
        remote += " . ct reply proto-dst"
    lines = [
        f"update @reverse {{ {port} : {inside} }}",
        f"update @taken {{ {port} }}",
        f"update @contacted {{ {port} . {remote} }}",
    ]
    if behaviour.mapping is Mapping.ENDPOINT_INDEPENDENT:
        lines.append(f"update @mapping {{ {inside} : {port} }}")
        lines.append(f"update @owned {{ {port} . {inside} }}")
    return [f"meta l4proto udp {line}" for line in lines]


def _refuse_hairpinned(behaviour: Behaviour) -> list[str]:
    called, caller = "ct original proto-dst", "ct reply ip daddr"
    match behaviour.filtering:
        case Filtering.ENDPOINT_INDEPENDENT:
            return []
        case Filtering.ADDRESS_DEPENDENT:
            seen = f"{called} . {caller}"
        case Filtering.ADDRESS_AND_PORT_DEPENDENT:
            seen = f"{called} . {caller} . ct reply proto-dst"
    return [f"{FROM_LAN} oifname {LAN} ct state new {seen} != @contacted drop"]


def _forward(behaviour: Behaviour, outside: IPv4Address) -> list[str]:
    lines = [
        f"iifname {LAN} meta mark set 1",
        f"iifname {WAN} meta mark set 2",
        *_block_udp(behaviour),
        f"iifname {LAN} oifname {WAN} accept",
        f"iifname {LAN} oifname {LAN} ct status dnat accept",
        f"iifname {WAN} ct state established,related accept",
        f"iifname {WAN} ct status dnat accept",
        "drop",
    ]
    # Dropped before the stack sees it: an entry for a refused packet would take
    # the port away from the connection that the inside opens a moment later.
    own = [
        f"iifname {WAN} meta l4proto {{ tcp, udp }} ct state new drop",
        f"iifname {LAN} ip daddr {outside} meta l4proto udp drop",
    ]
    return [
        *_chain("pass", "type filter hook forward priority filter;", lines),
        *_chain("own", "type filter hook input priority filter;", own),
    ]


def _ipv6(behaviour: Behaviour) -> list[str]:
    lines = _block_udp(behaviour)
    if behaviour.ipv6 is IPv6Service.FIREWALLED:
        lines.append(f"iifname {WAN} ct state != {{ established, related }} drop")
    chain = _chain("pass", "type filter hook forward priority filter;", lines)
    return ["table ip6 lab {", *chain, "}"]


def _block_udp(behaviour: Behaviour) -> list[str]:
    if not behaviour.block_udp:
        return []
    # Not by both ports of the packet: nft makes one comparison of two that are side by side.
    return ["meta l4proto udp ct original proto-dst != 53 drop"]


def _filters_ports(behaviour: Behaviour) -> bool:
    return behaviour.filtering is Filtering.ADDRESS_AND_PORT_DEPENDENT


def _chain(name: str, hook: str, lines: list[str]) -> list[str]:
    return [f"chain {name} {{", hook, *lines, "}"]
