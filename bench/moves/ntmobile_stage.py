"""NTMobile on the stage: two organisations, peers behind NATs, and one that has its own address."""

import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from moves.stage import Stage, await_answer, networks
from ntmobile.agent.client import Client
from ntmobile.agent.requests import AskBugReport
from ntmobile.agent.views import BugReport
from ntmobile.lab import Host, Lab
from ntmobile.lab.ntm import NtmNode, World
from ntmobile.lab.waiting import wait_until

MUTE = Path(__file__).with_name("mute")
"""Where Python finds what keeps an agent from sending anything again."""
RESENT = re.compile(r"^resent = (\d+)$", re.MULTILINE)


@contextmanager
def without_resend(delay_ms: float) -> Iterator[Stage]:
    """The same with agents that send what they held, and nothing that a path swallowed."""
    with _environment(PYTHONPATH=str(MUTE)), ntmobile(delay_ms) as stage:
        yield stage


@contextmanager
def ntmobile(delay_ms: float) -> Iterator[Stage]:
    """Both peers are met, the way to the one is relayed and stays so."""
    with ExitStack() as stack, Lab() as lab:
        alone = stack.enter_context(_alone())
        world = World(lab)
        org, net = world.federation("ntm.example.org", "ntm.example.net", apart=True)
        stage = networks(stack, lab, world.internet, delay_ms)
        org.add_user("alice")
        net.add_user("bob")
        laptop = NtmNode("laptop", "alice", org, stage.mover, world.directory / "state-laptop")
        pc = world.machine("pc", "bob", net, stage.offices[0])
        den = world.machine("den", "bob", net, stage.offices[0])
        box = world.machine("box", "bob", net, world.internet)
        stage.impair("box", box.host)
        nodes = (laptop, pc, den, box)
        for node in nodes:
            lab.logs[f"node {node.fqdn}"] = node.report
        world.bring_up(*nodes)
        _acquaint(stage, org.host, net.host, box.host)
        # Both ends must seek a direct path, or it stays as it is at first.
        for node, seeks in ((laptop, "yes"), (den, "yes"), (pc, "no")):
            node.ntm("set", f"seek-direct={seeks}")
            node.ntm("down")
            node.ntm("up")
        for kind, peer in (("relayed", pc), ("punched", den), ("direct", box)):
            stage.mover.run(["ping", "-c", "1", "-W", "10", peer.fqdn], check=False)
            wait_until(lambda peer=peer: _stands(laptop, peer), f"a way to {peer.fqdn}", 30)
            stage.add_peer(kind, peer.host, laptop.peer(peer)["virtual_ipv4"])
            await_answer(stage, stage.peers[kind].address)
        wait_until(lambda: laptop.peer(den)["path"]["kind"] == "direct", "a direct path", 30)
        stage.agents = tuple(node.state for node in nodes)
        stage.report = lambda: "\n\n".join(map(_report, nodes))
        stage.agent_pid = laptop.pid
        stage.coordinators = (org.processes["dc"], net.processes["dc"])
        alone.close()
        yield stage


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """What is started meanwhile has these variables too."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _alone() -> IO[str]:
    """Wait until no other command of the bench is building its stage: that takes all processors."""
    lock = (Path(tempfile.gettempdir()) / "ntmobile-bench-stage.lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def _acquaint(stage: Stage, *machines: Host) -> None:
    """Let every router know its neighbours, as one in use does: the first packets wait for ARP."""
    for router in (*stage.homes, *stage.offices):
        for machine in machines:
            for address in (machine.ipv4, machine.ipv6):
                router.run(["ping", "-c", "1", "-W", "2", str(address)], check=False)


def resent(agents: tuple[Path, ...]) -> int:
    """How many capsules all agents together have sent again so far."""
    told = [Client(state).ask(AskBugReport(), BugReport).text for state in agents]
    return sum(int(found[1]) for text in told if (found := RESENT.search(text)) is not None)


def _report(node: NtmNode) -> str:
    """What a node says, and what its machine dropped before the agent had it."""
    return f"{node.fqdn}\n{node.report()}\n{node.host.run(['ip', '-s', 'link']).stdout}"


def _stands(one: NtmNode, other: NtmNode) -> bool:
    return any(peer["fqdn"] == other.fqdn for peer in one.status()["peers"])
