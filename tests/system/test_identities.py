"""One machine in two organisations that do not know each other: two identities in one agent."""

import json
import os
import signal
import subprocess
from dataclasses import dataclass
from typing import Any

import pytest

from ntmobile.lab.ntm import NTM, PASSWORD, NtmNode, Organisation, World
from ntmobile.lab.waiting import wait_until
from tests.system.programs import PACED, WEB, Programs
from tests.system.transfers import Transfer, make_file

pytestmark = pytest.mark.lab

WORK, HOME = "alice@ntm.example.org", "alice@ntm.example.net"
GUARD_S = 120.0
SIZE = 8 << 20
PACE = 2 << 20
"""Bytes a second: the transfers last longer than the move."""


@dataclass
class TwoLives:
    """A laptop behind a NAT with an identity in either organisation, and a peer in each."""

    world: World
    laptop: NtmNode
    other: Organisation
    pc: NtmNode
    """Of the first organisation."""
    shop: NtmNode
    """Of the other."""
    digest: str

    def add(self) -> "subprocess.CompletedProcess[str]":
        """Log in to the other organisation, too."""
        trust = ("--ca", str(self.other.directory / "ca.pem"))
        words = ("up", HOME, "--name", "laptop", *trust, "--password-stdin")
        return self.ntm(*words, input=PASSWORD + "\n", check=False)

    def ntm(
        self, *words: str, input: str | None = None, check: bool = True
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command on the laptop, with all the patience of a loaded machine."""
        return self.laptop.ntm(*words, input=input, check=check, timeout=GUARD_S)

    def identities(self) -> dict[str, dict[str, Any]]:
        """Return what status says of each, by USER@DOMAIN."""
        status = self.laptop.status()
        return {each["identity"]: each for each in status["identities"] or [status]}

    def fetches(self, sender: NtmNode) -> bool:
        """Whether curl on the laptop gets a page of a peer by its name."""
        url = f"http://{sender.fqdn}:{WEB}/hello.txt"
        command = ["curl", "-sS", "--fail", "--noproxy", "*", "-m", "60", url]
        return self.laptop.host.run(command, check=False, timeout=GUARD_S).returncode == 0


@pytest.fixture(scope="module")
def lives(world: World, tmp_path_factory: pytest.TempPathFactory) -> TwoLives:
    org, net = (world.organisation(domain) for domain in ("ntm.example.org", "ntm.example.net"))
    lab, internet = world.lab, world.internet
    home, office = lab.nat("home", internet), lab.nat("office", internet)
    lab.nat("cafe", internet)
    laptop = world.machine("laptop", "alice", org, home)
    pc = world.machine("pc", "bob", org, office)
    shop = world.machine("shop", "bob", net, internet)
    net.add_user("alice")
    world.bring_up(laptop, pc, shop)
    served = Programs(tmp_path_factory.mktemp("served") / "files")
    digest = make_file(served.folder / "file", SIZE)
    for peer in (pc, shop):
        served.serve_web(peer.host)
        served.serve_paced(peer.host, PACE)
    made = TwoLives(world, laptop, net, pc, shop, digest)
    alone = laptop.status()
    assert alone["identities"] == [], "one identity looks as it always did"
    assert alone["identity"] == WORK
    assert not made.fetches(shop), "the organisations do not know each other"
    added = made.add()
    assert added.returncode == 0, added.stderr
    assert added.stdout.startswith("laptop.alice.ntm.example.net is up\n")
    return made


def test_one_agent_is_two_nodes_each_with_its_own_keys_addresses_and_device(
    lives: TwoLives,
) -> None:
    both = lives.identities()

    assert list(both) == [WORK, HOME]
    assert {each["state"] for each in both.values()} == {"up"}
    assert len({each["device_key"] for each in both.values()}) == 2
    devices = lives.laptop.host.run(["ip", "-br", "link"]).stdout
    assert {line.split()[0] for line in devices.splitlines() if line.startswith("ntm")} == {
        "ntm0",
        "ntm1",
    }
    shown = lives.ntm("status").stdout
    assert "laptop.alice.ntm.example.org: up" in shown
    assert "laptop.alice.ntm.example.net: up" in shown
    assert lives.laptop.status()["fqdn"] == "laptop.alice.ntm.example.org"


def test_programs_reach_both_organisations_at_the_same_time_by_name(lives: TwoLives) -> None:
    with (
        Transfer(lives.laptop, lives.pc, "file", port=PACED) as one,
        Transfer(lives.laptop, lives.shop, "file", port=PACED) as other,
    ):
        for peer in (lives.pc, lives.shop):
            command = ["ping", "-c", "2", "-i", "0.2", "-W", "30", peer.fqdn]
            pinged = lives.laptop.host.run(command, check=False, timeout=GUARD_S)
            assert pinged.returncode == 0, pinged.stdout + pinged.stderr
        assert (one.finish(), other.finish()) == (lives.digest, lives.digest)

    peers = {
        who: [peer["fqdn"] for peer in each["peers"]] for who, each in lives.identities().items()
    }
    assert peers == {WORK: [lives.pc.fqdn], HOME: [lives.shop.fqdn]}


def test_no_two_of_them_have_one_virtual_address_here(lives: TwoLives) -> None:
    assert lives.fetches(lives.pc)
    assert lives.fetches(lives.shop)
    ends = [end for each in lives.identities().values() for end in (each, *each["peers"])]

    hosts = [end[kind] for end in ends for kind in ("virtual_ipv4", "virtual_ipv6")]

    assert len(set(hosts)) == len(hosts) == 8
    for peer in json.loads(lives.ntm("peers", "--json").stdout)["peers"]:
        device = lives.laptop.host.run(["ip", "route", "get", peer["virtual_ipv4"]]).stdout
        assert ("dev ntm0" if peer["identity"] == WORK else "dev ntm1") in device


def test_a_command_goes_to_whose_domain_the_name_is_in_and_else_asks_who_is_meant(
    lives: TwoLives,
) -> None:
    pings = [lives.ntm("ping", peer.fqdn, "-c", "1") for peer in (lives.pc, lives.shop)]
    either = lives.ntm("ping", "desk", "-c", "1", check=False)
    wrong = lives.ntm("ping", lives.shop.fqdn, "-c", "1", "--identity", WORK, check=False)
    unknown = lives.ntm("status", "--identity", "carol@ntm.example.com", check=False)
    keys = lives.ntm("keys", check=False)

    assert [ping.returncode for ping in pings] == [0, 0]
    assert either.returncode == keys.returncode == 1
    assert f"several identities are here: {WORK}, {HOME}" in either.stderr
    assert "--identity" in keys.stderr
    assert wrong.returncode == 1, "the other organisation is none of this one's business"
    assert f"here are {WORK}, {HOME}" in unknown.stderr
    assert lives.ntm("keys", "--identity", "ntm.example.net").returncode == 0


def test_a_move_keeps_the_connections_of_both(lives: TwoLives) -> None:
    with (
        Transfer(lives.laptop, lives.pc, "file", port=PACED) as one,
        Transfer(lives.laptop, lives.shop, "file", port=PACED) as other,
    ):
        lives.laptop.host.move(lives.world.lab.machines["cafe"])
        assert (one.finish(), other.finish()) == (lives.digest, lives.digest)

    both = {(WORK, lives.pc.fqdn), (HOME, lives.shop.fqdn)}
    wait_until(lambda: moved(lives) == both, "both tunnels to have moved")


def moved(lives: TwoLives) -> set[tuple[str, str]]:
    return {(move["identity"], move["fqdn"]) for move in lives.laptop.handovers()}


def test_an_agent_that_was_killed_brings_both_back_without_a_password(lives: TwoLives) -> None:
    before = {who: each["virtual_ipv6"] for who, each in lives.identities().items()}
    os.kill(lives.laptop.pid, signal.SIGKILL)

    done = lives.ntm("up", check=False)

    assert done.returncode == 0, done.stderr
    assert "laptop.alice.ntm.example.org is up" in done.stdout
    assert "laptop.alice.ntm.example.net is up" in done.stdout
    assert {who: each["virtual_ipv6"] for who, each in lives.identities().items()} == before
    assert lives.fetches(lives.pc)
    assert lives.fetches(lives.shop)


def test_one_identity_that_is_down_leaves_the_other_alone_and_comes_back(lives: TwoLives) -> None:
    done = lives.ntm("down", "--identity", WORK)

    assert done.stdout == "laptop.alice.ntm.example.org is down\n"
    assert {who: each["state"] for who, each in lives.identities().items()} == {
        WORK: "down",
        HOME: "up",
    }
    assert not lives.fetches(lives.pc)
    assert lives.fetches(lives.shop)

    assert lives.ntm("up", "--identity", WORK).returncode == 0
    assert lives.fetches(lives.pc)


def test_who_logs_out_must_say_as_whom_and_the_other_stays(lives: TwoLives) -> None:
    refused = lives.ntm("logout", check=False)
    assert refused.returncode == 1
    assert f"--identity {HOME}" in refused.stderr
    assert set(lives.identities()) == {WORK, HOME}

    done = lives.ntm("logout", "--identity", HOME)

    assert done.stdout == "laptop.alice.ntm.example.net is down and logged out\n"
    assert set(lives.identities()) == {WORK}
    assert lives.fetches(lives.pc)
    assert not lives.fetches(lives.shop)
    again = lives.add()
    assert again.returncode == 0, again.stderr
    assert lives.fetches(lives.shop)


def test_a_wrong_password_for_a_further_identity_leaves_the_others_as_they_are(
    lives: TwoLives,
) -> None:
    words = ("up", "carol@ntm.example.net", "--name", "laptop", "--password-stdin")
    trust = ("--ca", str(lives.other.directory / "ca.pem"))

    done = lives.ntm(*words, *trust, input="not the password\n", check=False)

    assert done.returncode == 1
    assert "refused the user, the password or the key" in done.stderr
    assert {who: each["state"] for who, each in lives.identities().items()} == {
        WORK: "up",
        HOME: "up",
    }


def test_down_ends_all_of_them_and_the_agent(lives: TwoLives) -> None:
    done = lives.ntm("down")

    assert done.stdout.splitlines() == [
        "laptop.alice.ntm.example.org is down",
        "laptop.alice.ntm.example.net is down",
    ]
    assert lives.ntm("status", check=False).returncode == 3
    assert "ntm" not in lives.laptop.host.run(["ip", "-br", "link"]).stdout
    assert lives.laptop.host.run(["nft", "list", "ruleset"]).stdout == ""


def test_in_the_foreground_as_a_service_runs_it_all_come_up(lives: TwoLives) -> None:
    command = [NTM, "up", "--foreground", "--state", str(lives.laptop.state)]
    service = lives.laptop.host.popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: lives.ntm("wait", check=False).returncode == 0, "both", GUARD_S)
        assert {who: each["state"] for who, each in lives.identities().items()} == {
            WORK: "up",
            HOME: "up",
        }
        assert lives.fetches(lives.pc)
        assert lives.fetches(lives.shop)
    finally:
        service.terminate()
        ended = service.wait(GUARD_S)

    assert ended == 0
    assert "ntm" not in lives.laptop.host.run(["ip", "-br", "link"]).stdout
