from ipaddress import ip_address
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntmobile.config import ConfigError, render
from ntmobile.proto.coordinator.policy import Federation
from ntmobile.servers.config import (
    NOTIFICATION_PORT,
    Authentication,
    CoordinatorPorts,
    DnsSettings,
    FederationSettings,
    FurtherNotifier,
    FurtherRelay,
    NodeSettings,
    RelayPorts,
    Role,
    ServerConfig,
    ServerSettings,
    StoreSettings,
    parse_server,
)
from ntmobile.servers.push_settings import FcmSettings, PushSettings, WebPushSettings
from ntmobile.wire.endpoint import Endpoint

LEAST = '[server]\ndomain = "ntm.example.org"\naddresses = ["203.0.113.10"]\n'
TWO_RELAYS = """
[[relay]]
name = "rs2"
addresses = ["203.0.113.20", "203.0.113.21", "2001:db8::20"]
udp = 9000

[[relay]]
name = "rs3"
addresses = ["203.0.113.30"]
"""
TWO_NOTIFIERS = """
[[notifier]]
name = "ns2"
addresses = ["203.0.113.40", "203.0.113.41", "2001:db8::40"]
https = 444
port = 443

[[notifier]]
name = "ns3"
addresses = ["203.0.113.50"]
"""
FCM = '[push.fcm]\nproject = "my-project"\ncredentials = "fcm.json"\n'
APNS = """[push.apns]
key = "a.p8"
key_id = "ABCDE12345"
team_id = "TEAM123456"
topic = "net.example.app"
"""
PORTS = st.integers(1, 65535).filter(lambda port: port != NOTIFICATION_PORT)
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
    rs=st.builds(
        RelayPorts,
        https=PORTS,
        udp=st.integers(1000, 1999),
        addresses=st.sampled_from([(), (ip_address("203.0.113.20"),)]),
    ),
    relay=st.sampled_from(
        [(), (FurtherRelay(name="rs2", addresses=(ip_address("203.0.113.30"),)),)]
    ),
    notifier=st.sampled_from(
        [(), (FurtherNotifier(name="ns2", addresses=(ip_address("203.0.113.40"),)),)]
    ),
    dns=st.builds(DnsSettings, port=st.integers(2000, 2999)),
    federation=st.builds(FederationSettings, mode=st.sampled_from(Federation)),
    nodes=st.builds(
        NodeSettings,
        authentication=st.sampled_from(Authentication),
        keepalive_s=st.integers(5, 3600),
    ),
    push=st.builds(
        PushSettings,
        ca=st.sampled_from(["", "ca.pem"]),
        fcm=st.none() | st.just(FcmSettings(project="my-project", credentials="fcm.json")),
        web=st.none() | st.just(WebPushSettings(vapid_key="vapid.key", services=("*.a.example",))),
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


def test_a_role_is_at_the_servers_addresses_unless_it_has_its_own() -> None:
    config = parse_server(
        LEAST + '[as]\naddresses = ["203.0.113.9"]\n[rs]\naddresses = ["2001:db8::20"]\n'
    )

    where = {site.label: [str(each) for each in site.addresses] for site in config.sites}

    assert where == {"as": ["203.0.113.9"], "dc": ["203.0.113.10"], "rs": ["2001:db8::20"]}
    assert [str(each) for each in config.addresses] == list(chain(*where.values()))


def test_a_domain_may_have_several_rs_each_with_one_datagram_address_a_family() -> None:
    config = parse_server(LEAST + TWO_RELAYS)

    relays = {config.host_of(site): site.signalling() for site in config.relays}

    assert relays == {
        "rs.ntm.example.org": (Endpoint("203.0.113.10", 4331),),
        "rs2.ntm.example.org": (Endpoint("203.0.113.20", 9000), Endpoint("2001:db8::20", 9000)),
        "rs3.ntm.example.org": (Endpoint("203.0.113.30", 4331),),
    }


def test_a_domain_may_have_several_ns_each_with_one_address_a_family() -> None:
    config = parse_server(LEAST + 'roles = ["as", "dc", "ns"]\n' + TWO_NOTIFIERS)

    notifiers = {config.host_of(site): site.signalling() for site in config.notifiers}

    assert notifiers == {
        "ns.ntm.example.org": (Endpoint("203.0.113.10", 4434),),
        "ns2.ntm.example.org": (Endpoint("203.0.113.40", 443), Endpoint("2001:db8::40", 443)),
        "ns3.ntm.example.org": (Endpoint("203.0.113.50", 4434),),
    }
    assert config.notifiers[1].heading == "[[notifier]] ns2"


@pytest.mark.parametrize("further", [TWO_RELAYS, TWO_NOTIFIERS])
def test_a_further_server_leaves_the_certificate_of_the_others_as_it_is(further: str) -> None:
    assert parse_server(LEAST + further).names == parse_server(LEAST).names


def test_a_domain_may_have_only_rs_on_machines_of_their_own() -> None:
    config = parse_server(LEAST + 'roles = ["as", "dc"]\n' + TWO_RELAYS)

    assert [site.label for site in config.relays] == ["rs2", "rs3"]


def test_a_domain_may_have_only_ns_on_machines_of_their_own() -> None:
    config = parse_server(LEAST + TWO_NOTIFIERS)

    assert [site.label for site in config.notifiers] == ["ns2", "ns3"]


def test_servers_at_different_addresses_may_have_the_same_port() -> None:
    config = parse_server(LEAST + '[rs]\naddresses = ["203.0.113.20"]\nudp = 4330\n')

    assert config.rs.udp == config.dc.udp


def test_push_settings_are_read() -> None:
    config = parse_server(LEAST + FCM)

    assert config.push.fcm is not None
    assert (config.push.fcm.project, config.push.apns) == ("my-project", None)


@pytest.mark.parametrize(
    ("more", "line", "key"),
    [
        ('mode = "open"\n', 4, "server.mode"),
        ('[federation]\nmode = "all"\n', 5, "federation.mode"),
        ('[nodes]\n\nauthentication = "password"\n', 6, "nodes.authentication"),
        ("[dc]\nudp = 70000\n", 5, "dc.udp"),
        ("[dc]\nudp = 4331\n", 1, "rs.udp"),
        ("[dns]\nport = 4330\n", 5, "dns.port"),
        ('[dc]\naddresses = ["203.0.113.20"]\n[dns]\nport = 4330\n', 7, "dns.port"),
        ('[rs]\naddresses = ["example.org"]\n', 5, "rs.addresses"),
        ('[[relay]]\nname = "dc"\naddresses = ["203.0.113.20"]\n', 5, "relay[1].name"),
        ('[[relay]]\nname = "a.b"\naddresses = ["203.0.113.20"]\n', 5, "relay[1].name"),
        ('[[relay]]\nname = "rs2"\naddresses = []\n', 6, "relay[1].addresses"),
        ('[[relay]]\nname = "rs2"\n', 4, "relay[1].addresses"),
        ('[[relay]]\nname = "rs2"\naddresses = ["203.0.113.10"]\n', 4, "relay[1].udp"),
        (TWO_RELAYS.replace("rs3", "rs2"), 11, "relay[2].name"),
        ('[[notifier]]\nname = "ns"\naddresses = ["203.0.113.40"]\n', 5, "notifier[1].name"),
        ('[[notifier]]\nname = "ns2"\naddresses = []\n', 6, "notifier[1].addresses"),
        ('[[notifier]]\nname = "ns2"\n', 4, "notifier[1].addresses"),
        (TWO_NOTIFIERS.replace("https = 444\n", ""), 8, "notifier[1].port"),
        (TWO_NOTIFIERS.replace("ns3", "ns2"), 12, "notifier[2].name"),
        (TWO_RELAYS + TWO_NOTIFIERS.replace("ns3", "rs3"), 21, "notifier[2].name"),
        ('roles = ["as", "dc", "ns"]\n[ns]\nport = 443\n', 6, "ns.port"),
        ('roles = ["dc", "ns"]\n[ns]\nport = 4330\n', 6, "ns.port"),
        ("roles = []\n", 4, "server.roles"),
        ('roles = ["dc", "dc"]\n', 4, "server.roles"),
        ('certificate = "chain.pem"\n', 1, "server.key"),
        ('metrics = "203.0.113.10:9433"\n', 4, "server.metrics"),
        ('metrics = "localhost"\n', 4, "server.metrics"),
        ("[push.apns]\nkey = 'k'\n", 4, "push.apns.key_id"),
        (APNS.replace("ABCDE12345", "short"), 6, "push.apns.key_id"),
        (APNS + 'push_type = "loud"\n', 9, "push.apns.push_type"),
        (APNS + 'endpoint = "http://localhost"\n', 9, "push.apns.endpoint"),
        (FCM.replace("my-project", "My Project"), 5, "push.fcm.project"),
        (FCM + 'token_endpoint = "https://"\n', 7, "push.fcm.token_endpoint"),
        ("[push.web]\n", 4, "push.web.vapid_key"),
        ("[push.web]\nvapid_key = 'k'\ncontact = 'me'\n", 6, "push.web.contact"),
        ("[push.web]\nvapid_key = 'k'\nservices = ['*']\n", 6, "push.web.services"),
        ("[push]\nca = 1\n", 5, "push.ca"),
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
