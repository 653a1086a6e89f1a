"""One DNS hook for all identities of an agent. Ours: docs/protocol.md section 6."""

import random
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ntmobile.agent.dns_stub_messages import Answer, Refused
from ntmobile.agent.machine_names import MachineNames, Named
from ntmobile.agent.records import SavedAccount, SavedPeer
from ntmobile.agent.state import State

if TYPE_CHECKING:
    from conftest import Namespace, Resolver

pytestmark = pytest.mark.lab

SERVER = "192.0.2.53"
ORG, NET, COM = "ntm.example.org", "ntm.example.net", "ntm.example.com"
ALICES, BOBS = IPv4Address("100.64.0.9"), IPv4Address("100.64.1.9")
IPV6 = IPv6Address("fd12:3456::9")
Resolve = Callable[[str], Awaitable[Answer | Refused]]


@pytest.fixture
async def host(inside: "Namespace", resolver: "Resolver") -> "Namespace":
    inside.ip(f"addr add {SERVER}/32 dev lo")
    await resolver.open(SERVER, 53)
    resolver.records["www.example.com."] = "A 192.0.2.80"
    for domain in (ORG, NET, COM):
        resolver.zone(f"{domain}.", ntm=True)
    return inside


class One:
    """An identity that reaches whom it is told to."""

    def __init__(self, directory: Path, user: str, domain: str, answer: IPv4Address) -> None:
        directory.mkdir()
        self.state = State(directory, random.Random(1))
        self.state.keep_account(SavedAccount(user=user, name="laptop", domain=domain))
        self.asked: list[str] = []
        self.reaches: set[str] = set()
        self.named = Named(self.state, 1, self._resolve)
        self._answer = answer

    async def _resolve(self, fqdn: str) -> Answer | Refused:
        self.asked.append(fqdn)
        return Answer(self._answer, IPV6) if fqdn in self.reaches else Refused()


async def test_each_name_is_resolved_by_the_identity_whose_business_it_is(
    host: "Namespace", tmp_path: Path
) -> None:
    alice, bob = One(tmp_path / "a", "alice", ORG, ALICES), One(tmp_path / "b", "bob", NET, BOBS)
    for one, own, third in ((alice, ORG, "one"), (bob, NET, "other")):
        one.reaches = {f"pc.dave.{own}", f"{third}.erin.{COM}", f"known.erin.{COM}"}
    bob.state.keep_peer(f"known.erin.{COM}", SavedPeer(bytes(32), BOBS, IPV6, 0))
    with host.resolv_conf(f"nameserver {SERVER}\n") as conf:
        names = MachineNames(conf)
        for one in (alice, bob):
            await names.claim()
            await names.join(one.named)

        assert await look_up(host, f"pc.dave.{ORG}") == str(ALICES)
        assert await look_up(host, f"pc.dave.{NET}") == str(BOBS)
        assert await look_up(host, f"nobody.dave.{NET}") == ""
        assert await look_up(host, f"one.erin.{COM}") == str(ALICES)
        assert await look_up(host, f"other.erin.{COM}") == str(BOBS)
        assert await look_up(host, f"known.erin.{COM}") == str(BOBS)
        assert await look_up(host, "www.example.com") == "192.0.2.80"

        for one in (alice, bob):
            await names.leave(one.named)
            await names.release()
    assert not any(name.endswith(NET) for name in alice.asked), "no foreign DC hears of it"
    assert not any(name.endswith(ORG) for name in bob.asked)
    assert f"known.erin.{COM}" not in alice.asked, "who has met it goes first"


async def test_who_leaves_leaves_the_others_and_the_last_one_nothing(
    host: "Namespace", tmp_path: Path
) -> None:
    alice, bob = One(tmp_path / "a", "alice", ORG, ALICES), One(tmp_path / "b", "bob", NET, BOBS)
    alice.reaches, bob.reaches = {f"pc.dave.{ORG}"}, {f"pc.dave.{NET}"}
    with host.resolv_conf(f"nameserver {SERVER}\n") as conf:
        names = MachineNames(conf)
        await names.claim()
        await names.claim()
        await names.join(alice.named)
        await names.join(bob.named)

        await names.leave(alice.named)
        await names.release()
        assert await look_up(host, f"pc.dave.{NET}") == str(BOBS)
        assert await look_up(host, f"pc.dave.{ORG}") == ""

        await names.leave(bob.named)
        assert host.run("nft", "list", "ruleset") == ""
        await names.release()
        assert await look_up(host, "www.example.com") == "192.0.2.80"

        await names.claim()
        await names.join(alice.named)
        assert await look_up(host, f"pc.dave.{ORG}") == str(ALICES)
        await names.leave(alice.named)
        await names.release()
    assert names.hook is names.stub is None


async def test_who_only_claims_keeps_the_hook_that_the_others_left(
    host: "Namespace", tmp_path: Path
) -> None:
    alice, bob = One(tmp_path / "a", "alice", ORG, ALICES), One(tmp_path / "b", "bob", NET, BOBS)
    bob.reaches = {f"pc.dave.{NET}"}
    with host.resolv_conf(f"nameserver {SERVER}\n") as conf:
        names = MachineNames(conf)
        await names.claim()
        await names.claim()
        await names.join(alice.named)
        assert names.hook is not None
        mark = names.hook.mark
        await names.leave(alice.named)
        await names.release()

        await names.join(bob.named)

        assert names.hook.mark == mark, "the sockets of who claimed bear it"
        assert await look_up(host, f"pc.dave.{NET}") == str(BOBS)
        await names.leave(bob.named)
        await names.release()


async def test_who_comes_back_is_asked_at_once_whatever_was_said_before(
    host: "Namespace", tmp_path: Path
) -> None:
    alice, bob = One(tmp_path / "a", "alice", ORG, ALICES), One(tmp_path / "b", "bob", NET, BOBS)
    alice.reaches = {f"pc.dave.{ORG}"}
    with host.resolv_conf(f"nameserver {SERVER}\n") as conf:
        names = MachineNames(conf)
        await names.claim()
        await names.claim()
        await names.join(bob.named)
        assert await look_up(host, f"pc.dave.{ORG}") == ""

        await names.join(alice.named)

        assert await look_up(host, f"pc.dave.{ORG}") == str(ALICES)
        for one in (alice, bob):
            await names.leave(one.named)
            await names.release()


async def look_up(host: "Namespace", name: str) -> str:
    return (await host.output("getent", "ahostsv4", name)).split(" ")[0]
