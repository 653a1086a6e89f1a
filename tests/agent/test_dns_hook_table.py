import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

import dns.message
import pytest

from ntmobile.agent.dns_hook_table import LEVELS, MARK, HookUnavailable, OwnerTable
from ntmobile.agent.dns_stub import DnsStub
from ntmobile.agent.dns_stub_messages import Answer, Refused
from ntmobile.runtime.protection import marking
from ntmobile.runtime.socket_address import socket_address
from ntmobile.wire.endpoint import Endpoint

if TYPE_CHECKING:
    from conftest import Namespace, Resolver

pytestmark = pytest.mark.lab

SERVER, SERVER6 = "192.0.2.53", "2001:db8::53"
OTHER = "192.0.2.54"
GUARD_S = 60
LAPTOP = "laptop.alice.ntm.example.org"
PORT = 40_000
"""Of the agent and of an application in turn: the kernel draws the ports of both from one range."""
ADDRESSES = Answer(IPv4Address("100.64.0.9"), IPv6Address("fd12:3456::9"))

AGENT = """
import asyncio
from ntmobile.agent.dns_hook_table import OwnerTable
from ntmobile.agent.dns_stub import DnsStub
from ntmobile.runtime.protection import marking

async def main():
    with OwnerTable() as table:
        async with DnsStub(None, lambda _: None, lambda: (), protect=marking(table.mark)) as stub:
            table.redirect(stub.port)
            print("ready", flush=True)
            await asyncio.Event().wait()

asyncio.run(main())
"""


FIREWALL = """
table inet firewall {
  chain input {
    type filter hook input priority 0; policy drop;
    ct state established accept
    udp dport != 40000 accept
  }
}
"""


ZONES = """
table inet probe {
  chain out { type filter hook output priority -300; ct original zone set 1; }
}
"""


@pytest.fixture
async def host(inside: "Namespace", resolver: "Resolver") -> AsyncIterator["Namespace"]:
    """A namespace with a resolver on addresses of its own, which /etc/resolv.conf names."""
    inside.ip("link add up0 type veth peer name far0")
    inside.ip("link set far0 up")
    inside.ip("link set up0 up")
    for address in (f"{SERVER}/24", f"{OTHER}/24", f"{SERVER6}/64"):
        inside.ip(f"addr add {address} dev up0" + (" nodad" if ":" in address else ""))
    await resolver.open(SERVER, 53)
    await resolver.open(SERVER6, 53)
    resolver.records["www.example.com."] = "A 192.0.2.80"
    with inside.resolv_conf(f"nameserver {SERVER}\n"):
        yield inside


async def test_a_query_to_any_resolver_is_answered_for_a_node(host: "Namespace") -> None:
    async with hooked():
        for server in (SERVER, SERVER6, OTHER):
            for way in ("+notcp", "+tcp"):
                assert await dig(host, f"@{server}", way, LAPTOP, "A") == "100.64.0.9"


async def test_the_c_library_finds_a_node(host: "Namespace") -> None:
    async with hooked():
        found = await host.output("getent", "ahosts", LAPTOP)

    assert {line.split()[0] for line in found.splitlines()} == {"100.64.0.9", "fd12:3456::9"}


async def test_the_c_library_finds_a_node_by_its_short_name(host: "Namespace") -> None:
    async with hooked():
        assert (await host.output("getent", "ahostsv4", "laptop")).split()[0] == "100.64.0.9"


async def test_an_ordinary_query_reaches_the_server_that_was_chosen(
    host: "Namespace", resolver: "Resolver"
) -> None:
    second = type(resolver)()
    await second.open(OTHER, 53)
    second.records["www.example.com."] = "A 192.0.2.81"
    async with hooked():
        assert await dig(host, f"@{SERVER}", "www.example.com", "A") == "192.0.2.80"
        assert await dig(host, f"@{SERVER6}", "www.example.com", "A") == "192.0.2.80"
        assert await dig(host, f"@{OTHER}", "www.example.com", "A") == "192.0.2.81"
        assert await dig(host, f"@{OTHER}", "+tcp", "www.example.com", "A") == "192.0.2.81"
    second.close()


async def test_an_iterative_query_is_let_pass(host: "Namespace", resolver: "Resolver") -> None:
    async with hooked() as stub:
        assert await dig(host, f"@{SERVER}", "+norecurse", LAPTOP, "A") == ""

        assert f"{LAPTOP}." in resolver.names()
        assert stub.counters["hooked"] == 0


async def test_the_redirect_ends_with_its_context(host: "Namespace") -> None:
    async with hooked():
        assert "ntmobile-dns-1" in host.run("nft", "list", "ruleset")

    assert host.run("nft", "list", "ruleset") == ""
    assert await dig(host, f"@{SERVER}", "www.example.com", "A") == "192.0.2.80"


async def test_a_killed_agent_leaves_dns_working(host: "Namespace") -> None:
    with agent(host) as process:
        assert "redirect" in host.run("nft", "list", "ruleset")
        process.send_signal(signal.SIGKILL)
        process.wait(10)

    assert host.run("nft", "list", "ruleset") == ""
    assert await dig(host, f"@{SERVER}", "www.example.com", "A") == "192.0.2.80"


async def test_a_firewall_that_flushes_all_rules_cannot_end_the_hook(host: "Namespace") -> None:
    async with hooked():
        host.run("nft", "flush", "ruleset")

        assert await dig(host, f"@{SERVER}", LAPTOP, "A") == "100.64.0.9"


async def test_several_agents_form_a_chain(host: "Namespace", resolver: "Resolver") -> None:
    async with hooked() as lower, hooked(own="ntm.example.net") as upper:
        assert await dig(host, f"@{SERVER}", LAPTOP, "A") == "100.64.0.9"
        assert await dig(host, f"@{SERVER}", "pc.bob.ntm.example.net", "A") == "100.64.0.9"
        assert await dig(host, f"@{SERVER}", "www.example.com", "A") == "192.0.2.80"

        assert (lower.counters["hooked"], upper.counters["hooked"]) == (1, 1)
        assert resolver.names() == ["www.example.com."]


async def test_a_chain_survives_the_end_of_a_link(host: "Namespace") -> None:
    with agent(host) as lower:
        async with hooked():
            assert await dig(host, f"@{SERVER}", "www.example.com", "A") == "192.0.2.80"
            lower.send_signal(signal.SIGKILL)
            lower.wait(10)

            assert await dig(host, f"@{SERVER}", "www.example.com", "A") == "192.0.2.80"
            async with hooked(own="ntm.example.net"):
                assert await dig(host, f"@{SERVER}", "pc.bob.ntm.example.net", "A") == "100.64.0.9"
                assert await dig(host, f"@{SERVER}", LAPTOP, "A") == "100.64.0.9"


@pytest.fixture
def host_with_zones(host: "Namespace") -> "Namespace":
    """As host, where the kernel can remember flows apart."""
    if host.run("sh", "-c", f"nft '{ZONES}' && echo yes", check=False) != "yes\n":
        pytest.skip("this kernel has no zones of connection tracking")
    host.run("nft", "delete", "table", "inet", "probe")
    return host


@pytest.mark.usefixtures("host_with_zones")
@pytest.mark.parametrize("server", [SERVER, SERVER6])
async def test_a_query_from_a_port_that_the_agent_had_a_moment_ago_is_hooked(
    server: str,
) -> None:
    """The kernel remembers where datagrams between two ports went, and asks no rule again."""
    async with hooked():
        assert await asked(server, "www.example.com", mark=MARK | 1) == ["192.0.2.80"]

        assert await asked(server, LAPTOP) == ["100.64.0.9"]


@pytest.mark.usefixtures("host_with_zones")
@pytest.mark.parametrize("server", [SERVER, SERVER6])
async def test_a_query_of_the_agent_from_a_port_that_a_program_had_a_moment_ago_is_let_pass(
    server: str,
) -> None:
    async with hooked() as stub:
        assert await asked(server, LAPTOP) == ["100.64.0.9"]

        assert await asked(server, "www.example.com", mark=MARK | 1) == ["192.0.2.80"]
        assert stub.counters["forwarded"] == 0


@pytest.mark.parametrize("server", [SERVER, SERVER6])
async def test_a_firewall_that_lets_in_answers_only_lets_in_those_to_the_agent(
    host: "Namespace", server: str
) -> None:
    host.run("nft", FIREWALL)
    async with hooked():
        assert await asked(server, "www.example.com", mark=MARK | 1) == ["192.0.2.80"]
        assert await asked(server, LAPTOP) == ["100.64.0.9"]


def test_more_agents_than_levels_are_told_so(inside: "Namespace") -> None:
    tables = [OwnerTable().__enter__() for _ in range(LEVELS)]

    with pytest.raises(HookUnavailable, match="already hook DNS"):
        OwnerTable().__enter__()
    for table in tables:
        table.__exit__(None, None, None)


def test_without_the_right_to_change_nftables_the_reason_is_told(inside: "Namespace") -> None:
    line = "from ntmobile.agent.dns_hook_table import *; OwnerTable().__enter__()"
    done = subprocess.run(
        ["setpriv", "--bounding-set=-net_admin", sys.executable, "-c", line],
        capture_output=True,
        text=True,
        check=False,
    )

    assert "nftables refused the DNS redirect: " in done.stderr
    assert "let it use /etc/resolv.conf" in done.stderr


@asynccontextmanager
async def hooked(own: str = "ntm.example.org") -> AsyncIterator[DnsStub]:
    async def resolve(_: str) -> Answer | Refused:
        return ADDRESSES

    with OwnerTable() as table:
        stub = DnsStub(
            resolve,
            lambda _: None,
            lambda: (),
            own_zones=[own],
            search=[f"alice.{own}"],
            protect=marking(table.mark),
        )
        async with stub:
            table.redirect(stub.port)
            yield stub


class agent:
    """Another process that hooks DNS."""

    def __init__(self, host: "Namespace") -> None:
        self._process = host.popen(sys.executable, "-c", AGENT, stdout=subprocess.PIPE)

    def __enter__(self) -> "subprocess.Popen[str]":
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        return self._process

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()


async def dig(host: "Namespace", *arguments: str) -> str:
    return (await host.output("dig", "+short", "+tries=1", "+time=5", *arguments)).strip()


async def asked(server: str, name: str, mark: int = 0) -> list[str]:
    """Return the addresses that the server has of a name, asked by UDP from PORT."""
    there = Endpoint(server, 53)
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        made.bind(("", PORT))
        made.connect(socket_address(there))
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(GUARD_S):
            await loop.sock_sendall(made, dns.message.make_query(name, "A").to_wire())
            answer = dns.message.from_wire(await loop.sock_recv(made, 4096))
    return [str(address) for rrset in answer.answer for address in rrset]
