from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from ntmobile.errors import Remedy
from ntmobile.servers.config import Role, ServerConfig, parse_server
from ntmobile.servers.home import at_home, partner_elsewhere
from ntmobile.wire.endpoint import Host

MAIN, RELAY, FURTHER, PRIVATE = "203.0.113.10", "203.0.113.20", "203.0.113.30", "10.0.0.1"
SETTINGS = parse_server(f"""
[server]
domain = "ntm.example.org"
addresses = ["{MAIN}"]
[rs]
addresses = ["{RELAY}"]
[[relay]]
name = "rs2"
addresses = ["{FURTHER}", "2001:db8::30"]
""")


def machine(*addresses: str) -> Callable[[Host], bool]:
    """A machine with those addresses."""
    return lambda host: str(host) in addresses


def found(
    *addresses: str,
    roles: tuple[Role, ...] | None = None,
    relay: str | None = None,
    notifier: str | None = None,
    settings: ServerConfig = SETTINGS,
) -> list[str]:
    said = {Role.RS: relay, Role.NS: notifier}
    named = {role: label for role, label in said.items() if label is not None}
    with capture_logs():
        return [site.label for site in at_home(settings, roles, named, machine(*addresses))]


def test_a_server_is_at_home_where_its_address_is() -> None:
    assert found(MAIN) == ["as", "dc"]
    assert found(RELAY) == ["rs"]
    assert found("2001:db8::30") == ["rs2"]


def test_what_runs_elsewhere_is_said() -> None:
    with capture_logs() as logs:
        at_home(SETTINGS, None, {}, machine(MAIN))

    assert [(each["server"], each["at"]) for each in logs] == [
        ("rs.ntm.example.org", RELAY),
        ("rs2.ntm.example.org", f"{FURTHER}, 2001:db8::30"),
    ]


def test_behind_a_providers_nat_the_servers_without_addresses_of_their_own_run() -> None:
    assert found(PRIVATE) == ["as", "dc"]


def test_roles_that_are_named_run_wherever_this_is() -> None:
    assert found(PRIVATE, roles=(Role.AS,)) == ["as"]
    assert found(MAIN, roles=(Role.RS, Role.DC), relay="rs2") == ["dc", "rs2"]


def test_rs_is_the_one_that_is_at_home_here() -> None:
    assert found(FURTHER, roles=(Role.RS,)) == ["rs2"]
    assert found(RELAY, roles=(Role.RS,)) == ["rs"]


def test_one_process_runs_one_rs_and_another_the_next() -> None:
    assert found(RELAY, FURTHER, roles=(Role.RS,)) == ["rs"]
    assert found(RELAY, FURTHER, roles=(Role.RS,), relay="rs2") == ["rs2"]


def test_a_machine_that_could_be_any_rs_asks_which() -> None:
    with pytest.raises(Remedy, match="could be each") as raised:
        found(PRIVATE, roles=(Role.RS,))

    assert "--relay rs2" in raised.value.remedy


def test_the_only_rs_may_be_behind_a_providers_nat() -> None:
    alone = parse_server(f'[server]\ndomain = "ntm.example.org"\naddresses = ["{MAIN}"]\n')

    assert found(PRIVATE, roles=(Role.RS,), settings=alone) == ["rs"]


def test_an_unknown_rs_is_refused_with_those_there_are() -> None:
    with pytest.raises(Remedy, match=r"rs9 is no RS of this domain \(rs, rs2\)"):
        found(MAIN, relay="rs9")


def test_a_role_that_is_not_configured_is_refused() -> None:
    with pytest.raises(Remedy, match=r"ns is no role of this domain's servers \(as, dc, rs\)"):
        found(MAIN, roles=(Role.NS,))


def test_a_machine_without_any_server_is_told_to_say_which() -> None:
    text = f'[server]\ndomain = "ntm.example.org"\naddresses = ["{MAIN}"]\nroles = ["rs"]\n'
    settings = parse_server(text + f'[rs]\naddresses = ["{RELAY}"]\n')

    with pytest.raises(Remedy, match="no server is left") as raised:
        found(PRIVATE, settings=settings)

    assert "--roles rs" in raised.value.remedy


@pytest.mark.parametrize(
    ("machine_of", "elsewhere"),
    [(MAIN, "as"), (FURTHER, "dc"), (RELAY, None)],
    ids=["DC alone", "AS alone", "RS alone"],
)
def test_as_and_dc_on_different_machines_are_noticed(
    machine_of: str, elsewhere: str | None
) -> None:
    text = f'[server]\ndomain = "ntm.example.org"\naddresses = ["{MAIN}"]\n'
    apart = f'[as]\naddresses = ["{FURTHER}"]\n[rs]\naddresses = ["{RELAY}"]\n'
    settings = parse_server(text + apart)
    with capture_logs():
        running = at_home(settings, None, {}, machine(machine_of))

    partner = partner_elsewhere(settings, running, machine(machine_of))

    assert (None if partner is None else partner.label) == elsewhere
    assert partner_elsewhere(settings, running, machine(MAIN, FURTHER)) is None


def test_as_and_dc_in_processes_of_their_own_on_one_machine_are_fine() -> None:
    running = [SETTINGS.site(Role.AS)]

    assert partner_elsewhere(SETTINGS, running, machine(PRIVATE)) is None


def test_ns_may_be_alone_on_a_machine() -> None:
    text = f'[server]\ndomain = "ntm.example.org"\naddresses = ["{MAIN}"]\nroles = ["dc", "ns"]\n'
    settings = parse_server(text + f'[ns]\naddresses = ["{FURTHER}"]\n')

    assert found(MAIN, settings=settings) == ["dc"]
    assert found(FURTHER, settings=settings) == ["ns"]


NOTIFIERS = parse_server(f"""
[server]
domain = "ntm.example.org"
addresses = ["{MAIN}"]
roles = ["as", "dc", "rs", "ns"]
[[notifier]]
name = "ns2"
addresses = ["{RELAY}"]
[[notifier]]
name = "ns3"
addresses = ["{FURTHER}"]
""")


def test_of_several_ns_the_one_runs_that_is_at_home() -> None:
    assert found(MAIN, settings=NOTIFIERS) == ["as", "dc", "ns", "rs"]
    assert found(RELAY, settings=NOTIFIERS) == ["ns2"]
    assert found(PRIVATE, roles=(Role.NS,), notifier="ns3", settings=NOTIFIERS) == ["ns3"]


def test_a_machine_that_could_be_any_ns_asks_which() -> None:
    """The negative twin."""
    with pytest.raises(Remedy, match=r"any NS \(ns, ns2, ns3\)") as raised:
        found(PRIVATE, roles=(Role.NS,), settings=NOTIFIERS)

    assert "--roles ns --notifier ns3" in raised.value.remedy


def test_an_unknown_ns_is_refused_with_those_there_are() -> None:
    with pytest.raises(Remedy, match=r"rs2 is no NS of this domain \(ns, ns2, ns3\)") as raised:
        found(MAIN, notifier="rs2", settings=NOTIFIERS)

    assert "[[notifier]]" in raised.value.remedy
