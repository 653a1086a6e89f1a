"""Which identity of an agent is meant. Ours: docs/node.md, Several identities."""

import asyncio
import random
from collections.abc import AsyncGenerator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ntmobile.agent.agent import Agent
from ntmobile.agent.client import Client
from ntmobile.agent.identities import named
from ntmobile.agent.names import suited
from ntmobile.agent.places import IDENTITIES, log_directory
from ntmobile.agent.presence import Presence
from ntmobile.agent.records import SavedAccount, SavedPeer, VirtualAddresses, encode
from ntmobile.agent.requests import (
    AnyRequest,
    AskKeys,
    AskPeers,
    AskStatus,
    Done,
    Down,
    Ping,
    Set,
    Up,
    Whois,
)
from ntmobile.agent.state import State
from ntmobile.agent.views import PeersView, StatusView, WhoisView
from ntmobile.errors import Remedy
from ntmobile.wire.endpoint import Host

ALICE = SavedAccount(user="alice", name="laptop", domain="ntm.example.org", enrolled=True)
BOB = SavedAccount(user="bob", name="laptop", domain="ntm.example.net", enrolled=True)
CAROL = SavedAccount(user="carol", name="laptop", domain="ntm.example.net", enrolled=True)
PC, SHOP = "pc.dave.ntm.example.com", "shop.erin.ntm.example.com"
IPV4, IPV6 = IPv4Address("100.64.0.17"), IPv6Address("fd00::17")


def nothing(_: State) -> Any:  # noqa: ANN401
    raise AssertionError("no node is started here")


def save(directory: Path, *accounts: SavedAccount) -> None:
    """The first identity is in the directory itself, the others are below it."""
    for number, account in enumerate(accounts):
        place = directory / IDENTITIES / account.who if number else directory
        place.mkdir(parents=True, exist_ok=True)
        (place / "account.json").write_bytes(encode(account))


def agent_of(directory: Path, *accounts: SavedAccount) -> Agent:
    save(directory, *accounts)
    return Agent(directory, random.Random(1), nothing)


def met(identity: Presence, fqdn: str, ipv4: Host = IPV4, ipv6: Host = IPV6) -> None:
    assert isinstance(ipv4, IPv4Address)
    assert isinstance(ipv6, IPv6Address)
    identity.state.keep_peer(fqdn, SavedPeer(bytes(32), ipv4, ipv6, 0))


async def result(answers: AsyncGenerator[Any, None], kind: type[Any]) -> Any:  # noqa: ANN401
    async for answer in answers:
        if isinstance(answer, Done):
            return msgspec.json.decode(answer.value, type=kind)
    raise AssertionError("nothing was answered")


@pytest.mark.parametrize(
    "word", ["bob@ntm.example.net", "BOB@NTM.example.NET.", "laptop.bob.ntm.example.net", "bob"]
)
def test_an_identity_is_named_in_full_or_by_what_is_enough(word: str) -> None:
    assert named(word, [ALICE, BOB, CAROL]) is BOB


def test_a_word_that_means_two_of_them_or_none_is_refused_with_a_list() -> None:
    with pytest.raises(Remedy) as two:
        named("ntm.example.net", [ALICE, BOB, CAROL])
    with pytest.raises(Remedy) as other:
        named("dave", [ALICE])
    with pytest.raises(Remedy) as nobody:
        named("dave", [])

    assert two.value.problem.endswith("bob@ntm.example.net, carol@ntm.example.net")
    assert other.value.problem.endswith("here are alice@ntm.example.org")
    assert nobody.value.problem == "there is no identity 'dave' here"


def test_a_name_is_the_business_of_whose_domain_it_is_in_and_then_of_nobody_else(
    tmp_path: Path,
) -> None:
    alice, bob = agent_of(tmp_path, ALICE, BOB).identities()
    met(alice, f"pc.bob.{BOB.domain}")

    assert suited(f"pc.bob.{BOB.domain}", (alice, bob)) == ((bob,), ())


def test_a_name_of_a_third_domain_is_the_business_of_who_has_met_it_and_then_of_the_others(
    tmp_path: Path,
) -> None:
    alice, bob = agent_of(tmp_path, ALICE, BOB).identities()
    met(bob, PC)

    assert suited(PC, (alice, bob)) == ((bob,), (alice,))
    assert suited(SHOP, (alice, bob)) == ((), (alice, bob))


async def test_status_shows_all_of_several_identities_and_the_first_ones_fields(
    tmp_path: Path,
) -> None:
    agent = agent_of(tmp_path, ALICE, BOB)

    view = await result(agent.answer(AskStatus()), StatusView)
    one = await result(agent.answer(AskStatus(identity="bob")), StatusView)

    assert (view.fqdn, view.identity) == (ALICE.fqdn, ALICE.who)
    assert [each.fqdn for each in view.identities] == [ALICE.fqdn, BOB.fqdn]
    assert (one.fqdn, one.identities) == (BOB.fqdn, ())


async def test_one_identity_looks_as_before_wherever_it_is_kept(tmp_path: Path) -> None:
    (tmp_path / IDENTITIES / BOB.who).mkdir(parents=True)
    (tmp_path / IDENTITIES / BOB.who / "account.json").write_bytes(encode(BOB))
    agent = Agent(tmp_path, random.Random(1), nothing)

    view = await result(agent.answer(AskStatus()), StatusView)

    assert (view.fqdn, view.state, view.identities) == (BOB.fqdn, "down", ())


async def test_an_identity_that_is_damaged_keeps_no_other_from_working(tmp_path: Path) -> None:
    save(tmp_path, ALICE, BOB)
    (tmp_path / IDENTITIES / BOB.who / "peers.json").write_bytes(b"{")

    agent = Agent(tmp_path, random.Random(1), nothing)
    view = await result(agent.answer(AskStatus()), StatusView)

    assert (view.fqdn, view.identities) == (ALICE.fqdn, ())
    [reason] = view.reasons
    assert "peers.json is damaged" in reason


@pytest.mark.parametrize(
    "request_", [AskKeys(), Set({"relay-only": "yes"}), Down(forget=True), Ping(SHOP), Ping("pc")]
)
async def test_what_is_about_one_identity_asks_which_one(
    tmp_path: Path, request_: AnyRequest
) -> None:
    agent = agent_of(tmp_path, ALICE, BOB)

    with pytest.raises(Remedy, match="several identities are here") as refused:
        await result(agent.answer(request_), type(None))

    assert "--identity bob@ntm.example.net" in refused.value.remedy
    assert not agent.main.state.choices.relay_only


@pytest.mark.parametrize("name", [f"desk.bob.{BOB.domain}", PC, "pc.dave"])
async def test_a_name_says_which_identity_is_asked(tmp_path: Path, name: str) -> None:
    agent = agent_of(tmp_path, ALICE, BOB)
    met(agent.identities()[1], PC)
    met(agent.identities()[1], f"pc.dave.{BOB.domain}")

    # Its node is down: that, and not the question whose business it is, keeps it from an answer.
    with pytest.raises(Remedy, match="this node is down"):
        await result(agent.answer(Ping(name)), type(None))


async def test_the_operator_is_the_agents_own_and_another_setting_an_identitys(
    tmp_path: Path,
) -> None:
    agent = agent_of(tmp_path, ALICE, BOB)
    alice, bob = agent.identities()
    running = asyncio.Event()
    serving = asyncio.create_task(agent.run(running.set))  # noqa: TID251
    await running.wait()

    await result(agent.answer(Set({"operator": "root"})), Any)
    await result(agent.answer(Set({"relay-only": "yes"}, identity="bob")), Any)

    assert alice.state.choices.operator == "root"
    assert (alice.state.choices.relay_only, bob.state.choices.relay_only) == (False, True)
    agent.end()
    await serving


async def test_peers_of_all_are_listed_with_whose_they_are(tmp_path: Path) -> None:
    agent = agent_of(tmp_path, ALICE, BOB)
    alice, bob = agent.identities()
    met(alice, PC)
    met(bob, PC, IPv4Address("100.65.0.0"), IPv6Address("fd4e::1"))

    listed = await result(agent.answer(AskPeers()), PeersView)
    alone = await result(agent.answer(AskPeers(identity="alice")), PeersView)
    whose = await result(agent.answer(Whois("100.65.0.0")), WhoisView)

    assert [(peer.fqdn, peer.identity) for peer in listed.peers] == [
        (PC, ALICE.who),
        (PC, BOB.who),
    ]
    assert [(peer.fqdn, peer.identity) for peer in alone.peers] == [(PC, None)]
    assert whose.fqdn == PC


def test_what_others_have_is_taken_and_ones_own_is_not(tmp_path: Path) -> None:
    agent = agent_of(tmp_path, ALICE, BOB)
    alice, bob = agent.identities()
    own = VirtualAddresses(IPv4Address("100.64.0.1"), IPv6Address("fd00::1"))
    bob.state.keep_addresses(own)
    met(bob, PC)

    mine, others = agent.taken(bob), agent.taken(alice)
    hosts = (own.ipv4, own.ipv6, IPV4, IPV6)
    assert [host in others for host in hosts] == [True] * 4
    assert [host in mine for host in hosts] == [False] * 4
    met(alice, SHOP, IPv4Address("100.64.0.99"))
    assert IPv4Address("100.64.0.99") in mine, "asked anew each time"


def test_a_new_account_gets_a_place_and_one_that_was_here_its_old_one(tmp_path: Path) -> None:
    agent = agent_of(tmp_path, ALICE)
    further = tmp_path / IDENTITIES / BOB.who

    assert agent.presence_of(ALICE) is agent.main
    assert agent.presence_of(BOB).state.directory == further
    assert agent.presence_of(BOB) is agent.presence_of(BOB)

    agent.main.state.forget_account()
    assert agent.presence_of(BOB).state.directory == further, "its keys are there"
    assert agent.presence_of(CAROL) is agent.main


@pytest.mark.parametrize("user", ["../../etc", "a/b", "", "."])
def test_nobody_chooses_a_place_outside_by_a_name(tmp_path: Path, user: str) -> None:
    agent = agent_of(tmp_path, ALICE)

    with pytest.raises(Remedy, match="is not USER@DOMAIN"):
        agent.answer(Up(msgspec.structs.replace(BOB, user=user)))


def test_one_directory_is_one_agents_also_below_it(tmp_path: Path) -> None:
    agent = agent_of(tmp_path, ALICE, BOB)

    with pytest.raises(Remedy, match="already runs"):
        Agent(tmp_path / IDENTITIES / BOB.who, random.Random(2), nothing)
    assert log_directory(agent.identities()[1].state.directory) == tmp_path
    assert log_directory(tmp_path) == tmp_path


async def test_when_none_comes_up_each_reason_is_told_before_the_agent_ends(tmp_path: Path) -> None:
    def refusing(state: State) -> Any:  # noqa: ANN401
        raise Remedy(f"no device for {state.directory.name}", remedy="ntm up as root")

    save(tmp_path, ALICE, BOB)
    agent = Agent(tmp_path, random.Random(1), refusing)
    running = asyncio.Event()
    serving = asyncio.create_task(agent.run(running.set))  # noqa: TID251
    await running.wait()

    with pytest.raises(Remedy) as refused:
        await asyncio.to_thread(Client(tmp_path).ask, Up(), StatusView)
    await serving

    assert f"{ALICE.who}: no device for {tmp_path.name}" in refused.value.problem
    assert f"{BOB.who}: no device for {BOB.who}" in refused.value.problem
    assert refused.value.remedy == "ntm up as root"
