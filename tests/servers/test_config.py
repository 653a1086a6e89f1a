from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntmobile.config import ConfigError, render
from ntmobile.proto.coordinator.policy import Federation
from ntmobile.servers.config import (
    Authentication,
    CoordinatorPorts,
    DnsSettings,
    FederationSettings,
    NodeSettings,
    RelayPorts,
    Role,
    ServerConfig,
    ServerSettings,
    StoreSettings,
    parse_server,
)

LEAST = '[server]\ndomain = "ntm.example.org"\naddresses = ["203.0.113.10"]\n'
PORTS = st.integers(1, 65535)
CONFIGS = st.builds(
    ServerConfig,
    server=st.builds(
        ServerSettings,
        domain=st.sampled_from(["ntm.example.org", "a-b.example"]),
        addresses=st.lists(
            st.sampled_from(["203.0.113.10", "2001:db8::10", "127.0.0.1"]).map(ip_address),
            min_size=1,
            unique=True,
        ).map(tuple),
        roles=st.lists(st.sampled_from(Role), min_size=1, unique=True).map(tuple),
        whole_zone=st.booleans(),
    ),
    dc=st.builds(CoordinatorPorts, https=PORTS, udp=st.integers(1, 999)),
    rs=st.builds(RelayPorts, https=PORTS, udp=st.integers(1000, 1999)),
    dns=st.builds(DnsSettings, port=st.integers(2000, 2999)),
    federation=st.builds(FederationSettings, mode=st.sampled_from(Federation)),
    nodes=st.builds(
        NodeSettings,
        authentication=st.sampled_from(Authentication),
        keepalive_s=st.integers(5, 3600),
    ),
    store=st.builds(StoreSettings, url=st.sampled_from(["", "sqlite+aiosqlite:///x.db"])),
)


@given(CONFIGS)
def test_settings_that_are_written_are_read_back(config: ServerConfig) -> None:
    assert parse_server(render(config)) == config


def test_domain_and_addresses_are_all_that_must_be_said() -> None:
    config = parse_server(LEAST)

    assert config.server.roles == (Role.AS, Role.DC, Role.RS)
    assert (config.as_.https, config.dns.port) == (443, 53)
    assert (config.dc.udp, config.rs.udp) == (4330, 4331)
    assert config.federation.mode is Federation.LISTED
    assert config.nodes.authentication is Authentication.DEVICE_KEY


def test_a_server_is_named_by_its_role() -> None:
    config = parse_server(LEAST)

    assert config.name_of(Role.DC) == "dc.ntm.example.org"
    assert config.names == (
        "ntm.example.org",
        "as.ntm.example.org",
        "dc.ntm.example.org",
        "rs.ntm.example.org",
    )


def test_push_settings_are_read() -> None:
    config = parse_server(LEAST + '[push.fcm]\nproject = "p"\ncredentials = "fcm.json"\n')

    assert config.push.fcm is not None
    assert (config.push.fcm.project, config.push.apns) == ("p", None)


@pytest.mark.parametrize(
    ("more", "line", "key"),
    [
        ('mode = "open"\n', 4, "server.mode"),
        ('[federation]\nmode = "all"\n', 5, "federation.mode"),
        ('[nodes]\n\nauthentication = "password"\n', 6, "nodes.authentication"),
        ("[dc]\nudp = 70000\n", 5, "dc.udp"),
        ("[dc]\nudp = 4331\n", 1, "rs.udp"),
        ("[dns]\nport = 4330\n", 5, "dns.port"),
        ("roles = []\n", 4, "server.roles"),
        ('roles = ["dc", "dc"]\n', 4, "server.roles"),
        ('certificate = "chain.pem"\n', 1, "server.key"),
        ('metrics = "203.0.113.10:9433"\n', 4, "server.metrics"),
        ('metrics = "localhost"\n', 4, "server.metrics"),
        ("[push.apns]\nkey = 'k'\n", 4, "push.apns.key_id"),
        ("[colour]\n", 4, "colour"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_line(more: str, line: int, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_server(LEAST + more)

    assert caught.value.key == key
    assert caught.value.allowed
    assert caught.value.line == line


def test_a_missing_domain_is_named() -> None:
    with pytest.raises(ConfigError, match=r"server\.domain: is missing"):
        parse_server("")


def test_an_address_nobody_can_be_at_is_refused() -> None:
    for wrong in ("0.0.0.0", "224.0.0.1", "fe80::1%eth0", "example.org"):
        with pytest.raises(ConfigError, match=r"server\.addresses"):
            parse_server(LEAST.replace("203.0.113.10", wrong))
