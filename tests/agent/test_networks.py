"""What people say of networks beyond nodes, parsed once."""

from ipaddress import ip_network

import pytest

from ntmobile.agent.control import is_reserved
from ntmobile.agent.networks import Beyond, parse_behind, parse_beyond
from ntmobile.agent.requests import Set
from ntmobile.errors import Remedy

GATEWAY = "gw.bob.ntm.example.net"


def test_networks_are_said_with_the_node_that_leads_there() -> None:
    said = f"192.168.50.0/24@{GATEWAY},::/0@{GATEWAY.upper()}."

    assert parse_beyond(said) == (
        Beyond(ip_network("192.168.50.0/24"), GATEWAY),
        Beyond(ip_network("::/0"), GATEWAY),
    )
    assert parse_beyond("") == parse_behind("") == ()


def test_what_was_parsed_reads_the_same_again() -> None:
    once = ",".join(map(str, parse_beyond(f"10.0.5.0/24@{GATEWAY},0.0.0.0/0@{GATEWAY}")))

    assert ",".join(map(str, parse_beyond(once))) == once


@pytest.mark.parametrize(
    "wrong",
    [
        "192.168.50.0/24",
        "192.168.50.0/24@gw",
        f"192.168.50.1/24@{GATEWAY}",
        f"100.64.0.0/16@{GATEWAY}",
        f"128.0.0.0/1@{GATEWAY}",
        f"127.0.0.0/8@{GATEWAY}",
        f"printer@{GATEWAY}",
        f"10.0.5.0/24@{GATEWAY},10.0.5.0/24@pc.bob.ntm.example.net",
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_remedy(wrong: str) -> None:
    with pytest.raises(Remedy) as refused:
        parse_beyond(wrong)

    assert refused.value.remedy


@pytest.mark.parametrize(
    ("name", "reserved"),
    [("operator", True), ("routes", True), ("advertise-routes", True), ("relay-only", False)],
)
def test_an_operator_changes_neither_operators_nor_networks(name: str, reserved: bool) -> None:
    assert is_reserved(Set({name: ""})) is reserved
