from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ntmobile.agent.dns_hook import DnsHook
from ntmobile.agent.dns_hook_table import LEVELS, OwnerTable
from ntmobile.agent.dns_stub import DnsStub
from ntmobile.agent.dns_stub_messages import Answer, Refused
from ntmobile.runtime.protection import marking

if TYPE_CHECKING:
    from conftest import Namespace, Resolver

pytestmark = pytest.mark.lab

SERVER = "192.0.2.53"
LAPTOP = "laptop.alice.ntm.example.org"


@pytest.fixture
def _every_level_taken(inside: "Namespace") -> Iterator[None]:
    with ExitStack() as stack:
        for _ in range(LEVELS):
            stack.enter_context(OwnerTable())
        yield


@pytest.fixture
async def host(inside: "Namespace", resolver: "Resolver") -> "Namespace":
    inside.ip(f"addr add {SERVER}/32 dev lo")
    await resolver.open(SERVER, 53)
    resolver.records["www.example.com."] = "A 192.0.2.80"
    return inside


async def test_the_redirect_is_the_first_choice(host: "Namespace") -> None:
    with host.resolv_conf(f"nameserver {SERVER}\n") as conf:
        async with hooked(conf) as hook:
            assert (hook.kind, hook.detail, hook.trouble) == (
                "nftables",
                "table ntmobile-dns-1",
                "",
            )
            assert await look_up(host, LAPTOP) == "100.64.0.9"
            assert conf.read_text() == f"nameserver {SERVER}\n"

        assert await look_up(host, "www.example.com") == "192.0.2.80"


@pytest.mark.usefixtures("_every_level_taken")
async def test_without_nftables_resolv_conf_names_the_stub(
    host: "Namespace",
) -> None:
    with host.resolv_conf(f"nameserver {SERVER}\n") as conf:
        async with hooked(conf) as hook:
            assert (hook.kind, hook.mark) == ("resolv.conf", 0)
            assert hook.detail == f"127.78.0.1 is the first server of {conf}"
            assert "already hook DNS" in hook.trouble
            for name, address in ((LAPTOP, "100.64.0.9"), ("www.example.com", "192.0.2.80")):
                assert await look_up(host, name) == address

        assert conf.read_text() == f"nameserver {SERVER}\n"


@pytest.mark.usefixtures("_every_level_taken")
async def test_a_rewritten_resolv_conf_is_hooked_again(
    host: "Namespace",
) -> None:
    with host.resolv_conf("nameserver 192.0.2.99\n") as conf:
        async with hooked(conf) as hook:
            conf.write_text(f"nameserver {SERVER}\n")
            await hook.refresh()

            assert await look_up(host, LAPTOP) == "100.64.0.9"
            assert await look_up(host, "www.example.com") == "192.0.2.80"


async def test_resolvers_that_cannot_be_redirected_are_hooked_in_resolv_conf(
    host: "Namespace",
) -> None:
    with host.resolv_conf("nameserver fe80::1%lo\n") as conf:
        async with hooked(conf) as hook:
            assert hook.kind == "resolv.conf"
            assert host.run("nft", "list", "ruleset") == ""


@asynccontextmanager
async def hooked(conf: Path) -> AsyncIterator[DnsHook]:
    async def resolve(_: str) -> Answer | Refused:
        return Answer(IPv4Address("100.64.0.9"), IPv6Address("fd12:3456::9"))

    with DnsHook(path=conf) as hook:
        stub = DnsStub(
            resolve,
            lambda _: None,
            hook.servers,
            own_zones=["ntm.example.org"],
            addresses=hook.addresses,
            port=hook.port,
            protect=marking(hook.mark),
        )
        async with stub, hook.to(stub, 1, ["alice.ntm.example.org"]):
            yield hook


async def look_up(host: "Namespace", name: str) -> str:
    return (await host.output("getent", "ahostsv4", name)).split(" ")[0]
