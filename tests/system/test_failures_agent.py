"""A node's own machine: killed agents, a full disk, a second start, a copied state."""

import os
import shutil
import signal
import time
from dataclasses import dataclass

import pytest

from ntmobile.lab.ntm import PASSWORD, NtmNode, Organisation, World
from tests.system.failing import (
    Download,
    full_disk,
    put_on_small_disk,
    refusal,
    resolves,
    seconds_until,
    serve_stream,
    traces_in,
)

pytestmark = pytest.mark.lab
STATE_KB = 256
QUIET_S = 6


@dataclass
class Place:
    """A domain and two nodes of it."""

    world: World
    org: Organisation
    laptop: NtmNode
    """Its state is on a small disk."""
    pc: NtmNode


@pytest.fixture(scope="module")
def place(world: World) -> Place:
    org = world.organisation("ntm.example.org")
    lab, internet = world.lab, world.internet
    laptop = world.machine("laptop", "alice", org, lab.nat("home", internet))
    put_on_small_disk(laptop.host, laptop.state, STATE_KB)
    pc = world.machine("pc", "bob", org, internet)
    world.bring_up(laptop, pc)
    serve_stream(pc.host)
    return Place(world, org, laptop, pc)


def kill(node: NtmNode) -> None:
    """End a node's agent with kill -9."""
    agent = pid_of(node)
    os.kill(agent, signal.SIGKILL)
    seconds_until(lambda: not os.path.exists(f"/proc/{agent}"), "the agent to be gone")


def pid_of(node: NtmNode) -> int:
    """The agent's process; its state may be on a disk that only its machine sees."""
    return int(node.host.path(str(node.state / "agent.lock")).read_text())


def test_a_killed_agent_leaves_nothing_behind_but_what_the_next_one_needs(place: Place) -> None:
    laptop, host = place.laptop, place.laptop.host
    laptop.ntm("down")
    before = traces_in(host)
    laptop.ntm("up")
    laptop.ntm("ping", place.pc.fqdn, "-c", "1")
    assert traces_in(host) != before
    addresses = [laptop.status()[key] for key in ("fqdn", "virtual_ipv4", "virtual_ipv6")]

    kill(laptop)

    assert traces_in(host) == before
    assert resolves(host, f"dc.{place.org.domain}")
    assert laptop.ntm("status", check=False).returncode == 3
    assert laptop.ntm("up").returncode == 0
    assert [laptop.status()[key] for key in ("fqdn", "virtual_ipv4", "virtual_ipv6")] == addresses
    assert "pong from" in laptop.ntm("ping", place.pc.fqdn, "-c", "1").stdout


def test_an_agent_that_hangs_does_stop_the_names(place: Place) -> None:
    """The negative twin: the machine's names do go through the agent while it lives."""
    agent = pid_of(place.laptop)
    os.kill(agent, signal.SIGSTOP)
    try:
        query = ["dig", "+tries=1", "+time=1", f"dc.{place.org.domain}"]
        assert place.laptop.host.run(query, check=False).returncode != 0
    finally:
        os.kill(agent, signal.SIGCONT)
    assert resolves(place.laptop.host, f"dc.{place.org.domain}")


def test_the_peer_of_a_killed_agent_reaches_it_again_after_its_next_start(place: Place) -> None:
    place.pc.ntm("ping", place.laptop.fqdn, "-c", "1")

    kill(place.laptop)
    place.laptop.ntm("up")

    done = place.pc.ntm("ping", place.laptop.fqdn, "-c", "20", "-i", "0.5", check=False)
    assert "pong from" in done.stdout


def test_a_download_stalls_while_the_agent_is_frozen_and_loses_nothing(place: Place) -> None:
    with Download(place.laptop, place.pc, seconds=6) as download:
        began = time.perf_counter()
        agent = pid_of(place.laptop)
        os.kill(agent, signal.SIGSTOP)
        try:
            download.await_stall(began)
        finally:
            os.kill(agent, signal.SIGCONT)
        download.finish()


def test_a_second_up_while_the_agent_runs_says_so_and_changes_nothing(place: Place) -> None:
    with Download(place.laptop, place.pc, seconds=6) as download:
        agent = pid_of(place.laptop)
        done = place.laptop.ntm("up")
        download.finish()

    assert done.returncode == 0
    assert "already running" in done.stderr
    assert f"{place.laptop.fqdn}: up" in done.stdout
    assert pid_of(place.laptop) == agent


def test_a_further_identity_that_cannot_log_in_is_refused_and_changes_nothing(place: Place) -> None:
    """Without the organisation's CA, which no system trusts."""
    agent = pid_of(place.laptop)

    code, said = refusal(
        place.laptop, "up", f"bob@{place.org.domain}", "--password-stdin", input=PASSWORD
    )

    assert code == 1
    assert "the account server of ntm.example.org could not" in said
    assert "next: " in said
    status = place.laptop.status()
    assert (status["fqdn"], status["identities"]) == (place.laptop.fqdn, [])
    assert pid_of(place.laptop) == agent


def test_a_full_disk_under_the_state_stops_no_tunnel_and_is_told(place: Place) -> None:
    laptop = place.laptop
    box = place.world.node("box", "bob", place.org, place.world.internet)
    with Download(laptop, place.pc, seconds=10) as download:
        with full_disk(laptop.host, laptop.state):
            # A peer never met before: its pin is to be written down.
            done = laptop.ntm("ping", box.fqdn, "-c", "1")
            seconds_until(lambda: laptop.status()["state"] != "up", "the full disk to be met")
            suffering = laptop.status()
            download.await_flow()
        download.finish()

    assert "pong from" in done.stdout
    assert suffering["state"] == "degraded"
    assert any("peers.json: No space left" in reason for reason in suffering["reasons"])
    seconds_until(lambda: laptop.status()["state"] == "up", "the pin to be written down")
    assert box.fqdn in laptop.host.path(str(laptop.state / "peers.json")).read_text()


def test_a_new_node_on_a_full_disk_is_told_before_it_logs_in(place: Place) -> None:
    fresh = place.world.machine("fresh", "alice", place.org, place.world.internet)
    put_on_small_disk(fresh.host, fresh.state, STATE_KB)
    ca = str(place.org.directory / "ca.pem")
    words = ("up", f"alice@{place.org.domain}", "--name", "fresh", "--password-stdin", "--ca", ca)
    with full_disk(fresh.host, fresh.state):
        code, said = refusal(fresh, *words, input=PASSWORD)

    assert code == 1
    assert "No space left on device" in said
    assert "next:" in said
    assert fresh.ntm(*words, input=PASSWORD).returncode == 0


def test_of_two_copies_of_a_state_the_newer_wins_and_the_older_does_not_fight(
    place: Place,
) -> None:
    older = place.world.node("desk", "alice", place.org, place.world.internet)
    host = place.world.lab.host("copy", place.world.internet)
    copy = place.world.directory / "state-copy"
    shutil.copytree(older.state, copy, ignore=shutil.ignore_patterns("*.lock", "*.sock"))
    newer = NtmNode("desk", "alice", place.org, host, copy)

    newer.ntm("up")

    seconds_until(lambda: older.status()["state"] == "degraded", "the older one to give way")
    [reason] = older.status()["reasons"]
    assert "a newer copy of this node's state runs elsewhere; this one gave way" in reason
    assert "next: end the other one, then here: ntm down, ntm up; or log in under" in reason
    for words in ("up", "wait"):
        code, said = refusal(older, words)
        assert (code, "next: end the other one" in said) == (1, True)
    assert "pong from" in place.pc.ntm("ping", older.fqdn, "-c", "1").stdout
    assert newer.peer(place.pc)["fqdn"] == place.pc.fqdn
    # Either would try again within seconds if it fought; the newer one asks now and then anyway.
    registered = registrations(older), registrations(newer)
    time.sleep(QUIET_S)
    assert registrations(older) == registered[0]
    assert registrations(newer) - registered[1] <= 1
    assert (older.status()["state"], newer.status()["state"]) == ("degraded", "up")

    newer.ntm("down")
    older.ntm("down")
    assert older.ntm("up").returncode == 0
    assert older.status()["state"] == "up"


def registrations(node: NtmNode) -> int:
    """How often a node asked to be registered."""
    return node.ntm("bugreport").stdout.count("Registration Request")
