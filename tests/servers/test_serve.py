"""Whole domains on loopback: real HTTPS, UDP, DNS and SQLite, and the node's own machine."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import httpx
import pytest
from structlog.testing import capture_logs

from ntmobile.errors import Remedy
from ntmobile.proto.node.events import NameRefused, NameResolved
from ntmobile.runtime.clock import Clock
from ntmobile.servers.admin_socket import tell
from ntmobile.servers.config import Role
from ntmobile.wire.registration import Reason

if TYPE_CHECKING:
    from tests.servers.conftest import LiveNode, Organisation

MakeOrganisation = Callable[..., Awaitable["Organisation"]]
MakeNode = Callable[["Organisation", str], Awaitable["LiveNode"]]
OTHER = "ntm.example.net"


async def test_every_role_answers_itself(organisation: MakeOrganisation) -> None:
    org = await organisation()

    await org.running[0].check()


async def test_a_node_logs_in_by_password_and_registers(
    organisation: MakeOrganisation, node: MakeNode
) -> None:
    org = await organisation()
    laptop = await node(org, "laptop.alice")

    laptop.login()
    registered = await laptop.registered()

    assert str(registered.virtual_ipv4).startswith("100.64.")
    assert registered.mapped.port == laptop.port.port


async def test_later_the_device_key_is_enough(
    organisation: MakeOrganisation, node: MakeNode
) -> None:
    org = await organisation()
    laptop = await node(org, "laptop.alice")
    laptop.login()
    await laptop.registered()

    laptop.events.clear()
    laptop.login(password=None)

    await laptop.wait_for(lambda event: type(event).__name__ == "LoggedIn")


async def test_a_wrong_password_is_refused(organisation: MakeOrganisation, node: MakeNode) -> None:
    org = await organisation()
    laptop = await node(org, "laptop.alice")

    laptop.login("a wrong password")

    assert (await laptop.refused()).code == "credentials"


async def test_roles_in_processes_of_their_own_find_each_other(
    organisation: MakeOrganisation, node: MakeNode
) -> None:
    org = await organisation(apart=True)
    laptop, pc = await node(org, "laptop.alice"), await node(org, "pc.bob")
    for each in (laptop, pc):
        each.login()
        await each.registered()

    assert isinstance(await laptop.resolve(pc.fqdn), NameResolved)


async def test_a_name_in_another_domain_resolves_once_both_list_each_other(
    organisation: MakeOrganisation, node: MakeNode
) -> None:
    ours, theirs = await organisation(), await organisation(OTHER)
    ours.resolvers, theirs.resolvers = theirs.resolvers, ours.resolvers
    await ours.list_domain(theirs)
    await theirs.list_domain(ours)
    laptop, pc = await node(ours, "laptop.alice"), await node(theirs, "pc.bob")
    for each in (laptop, pc):
        each.login()
        await each.registered()

    answer = await laptop.resolve(pc.fqdn)

    assert isinstance(answer, NameResolved), answer


async def test_a_domain_that_we_do_not_list_is_refused(
    organisation: MakeOrganisation, node: MakeNode
) -> None:
    ours, theirs = await organisation(), await organisation(OTHER)
    ours.resolvers = theirs.resolvers
    laptop = await node(ours, "laptop.alice")
    laptop.login()
    await laptop.registered()

    answer = await laptop.resolve(f"pc.bob.{OTHER}")

    assert isinstance(answer, NameRefused)
    assert answer.reason is Reason.FOREIGN_DOMAIN


async def test_a_domain_that_does_not_list_us_says_so_to_both_operators(
    organisation: MakeOrganisation, node: MakeNode
) -> None:
    ours, theirs = await organisation(), await organisation(OTHER)
    ours.resolvers, theirs.resolvers = theirs.resolvers, ours.resolvers
    await ours.list_domain(theirs)
    laptop = await node(ours, "laptop.alice")
    laptop.login()
    await laptop.registered()

    with capture_logs() as logs:
        answer = await laptop.resolve(f"pc.bob.{OTHER}")

    assert isinstance(answer, NameRefused)
    assert answer.reason is Reason.FOREIGN_DOMAIN
    warned = [(entry["event"], entry["why"]) for entry in logs if entry["log_level"] == "warning"]
    assert [event for event, _ in warned] == [
        "domain refused",
        "server refused us or did not answer",
    ]
    assert all(f"ntm admin federation add {ours.domain}" in why for _, why in warned)


async def test_a_wrong_pin_refuses_the_domain(
    organisation: MakeOrganisation, node: MakeNode
) -> None:
    ours, theirs = await organisation(), await organisation(OTHER)
    ours.resolvers = theirs.resolvers
    await ours.list_domain(theirs, key=bytes(32))
    laptop = await node(ours, "laptop.alice")
    laptop.login()
    await laptop.registered()

    with capture_logs():
        answer = await laptop.resolve(f"pc.bob.{OTHER}")

    assert isinstance(answer, NameRefused)
    assert answer.reason is Reason.DOMAIN_KEY


async def test_a_pin_that_changes_counts_at_once_though_a_key_is_shared_already(
    organisation: MakeOrganisation, node: MakeNode
) -> None:
    ours, theirs = await organisation(), await organisation(OTHER)
    ours.resolvers, theirs.resolvers = theirs.resolvers, ours.resolvers
    await ours.list_domain(theirs)
    await theirs.list_domain(ours)
    laptop = await node(ours, "laptop.alice")
    laptop.login()
    await laptop.registered()
    before = await laptop.resolve(f"nobody.bob.{OTHER}")

    with capture_logs():
        await theirs.list_domain(ours, key=bytes(32))
        after = await laptop.resolve(f"nobody.bob.{OTHER}")

    assert [answer.reason for answer in (before, after) if isinstance(answer, NameRefused)] == [
        Reason.UNKNOWN_NAME,
        Reason.DOMAIN_KEY,
    ]


async def test_a_restarted_domain_still_knows_its_nodes(
    organisation: MakeOrganisation, node: MakeNode
) -> None:
    org = await organisation()
    laptop, pc = await node(org, "laptop.alice"), await node(org, "pc.bob")
    for each in (laptop, pc):
        each.login()
        await each.registered()

    await org.stop()
    servers = await org.start()

    assert servers.coordinator is not None
    stored = servers.coordinator.machine.registered(Clock().now())
    assert {each.fqdn for each in stored} == {laptop.fqdn, pc.fqdn}
    assert isinstance(await laptop.resolve(pc.fqdn), NameResolved)


async def test_a_revocation_reaches_the_node_though_it_asks_for_nothing(
    organisation: MakeOrganisation, node: MakeNode
) -> None:
    org = await organisation()
    laptop = await node(org, "laptop.alice")
    laptop.login()
    await laptop.registered()
    store = await org.store()
    await store.nodes.revoke(laptop.fqdn, Clock().wall())
    await store.close()

    told = await asyncio.to_thread(tell, org.directory.path)
    lost = await laptop.lost()

    assert told.servers == 1
    assert lost.reason is Reason.REVOKED


async def test_a_wrong_settings_file_changes_nothing_and_says_where(
    organisation: MakeOrganisation,
) -> None:
    org = await organisation()
    [servers] = org.running
    org.set('mode = "listed"', 'mode = "everybody"')

    with pytest.raises(Remedy, match="line"):
        await servers.reload()

    assert servers.own.settings.federation.mode == "listed"
    await servers.check()


async def test_a_new_port_waits_for_a_restart(organisation: MakeOrganisation) -> None:
    org = await organisation()
    [servers] = org.running
    port = servers.own.settings.dc.udp
    org.set(f"udp = {port}", "udp = 4330")

    with capture_logs() as logs:
        await servers.reload()

    assert servers.own.settings.dc.udp == port
    assert any(entry.get("sections") == "[dc]" for entry in logs)


async def test_a_renewed_certificate_is_presented_after_a_reload(
    organisation: MakeOrganisation,
) -> None:
    org, other = await organisation(), await organisation("ntm.example.com")
    [servers] = org.running
    before = servers.own.certificate
    shutil.copy(other.directory.path / "server.pem", org.directory.path / "server.pem")

    await servers.reload()

    assert servers.own.certificate != before
    await servers.check()


async def test_while_the_database_is_gone_nodes_stay_and_are_written_when_it_is_back(
    organisation: MakeOrganisation, node: MakeNode
) -> None:
    org = await organisation()
    [servers] = org.running
    laptop = await node(org, "laptop.alice")
    laptop.login()
    await laptop.registered()
    database = org.directory.path / "ntm.db"
    pc = await node(org, "pc.bob")
    pc.login()
    await pc.registered()

    with capture_logs() as logs:
        database.rename(database.with_name("away"))
        assert isinstance(await laptop.resolve(pc.fqdn), NameResolved)
        await until(lambda: servers.keeper.counters["failures"] > 0)
        database.with_name("away").rename(database)
        await until(lambda: servers.keeper.counters["decisions"] > 0)

    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == [
        "the store cannot be written; going on without"
    ]


async def test_a_role_that_is_not_configured_is_refused(organisation: MakeOrganisation) -> None:
    org = await organisation()

    with pytest.raises(Remedy, match="ns is no role"):
        await org.start([Role.NS])


async def test_a_taken_port_is_named_with_what_to_do(organisation: MakeOrganisation) -> None:
    org = await organisation()

    with capture_logs(), pytest.raises(Remedy, match=r"cannot open .* port") as raised:
        await org.start()

    assert "server.toml" in raised.value.remedy
    await org.running[0].check()


async def test_metrics_are_served_on_loopback(organisation: MakeOrganisation) -> None:
    org = await organisation()
    await org.stop()
    org.set('metrics = ""', 'metrics = "127.0.0.1:0"')
    servers = await org.start()
    assert servers.metrics.endpoint is not None

    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://{servers.metrics.endpoint}/metrics")

    assert "ntm_registered_nodes 0.0" in answer.text


async def until(fits: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not fits():  # noqa: ASYNC110 - a counter has no event
            await asyncio.sleep(0)
