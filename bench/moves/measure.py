"""One move, and what the application at either end noticed of it."""

import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from moves.ntmobile_stage import resent
from moves.rows import Row
from moves.stage import PORT, Peer, Program, Stage, await_answer, wall_cpu_s
from moves.usable import Usable
from ntmobile.lab import Network
from ntmobile.lab.host import FIRST_METRIC

FLOW_S = 0.8
"""A flow is under way for so long before the move."""
PATIENCE_S = 90.0
"""A flow that delivers nothing for so long afterwards is called broken."""
DATAGRAM_RATE = 50e6 / 8


@dataclass(frozen=True)
class Outcome:
    """What one run showed. Times in ms."""

    system: str
    row: str
    peer: str
    carries: str
    delay_ms: float
    gap_ms: float
    lost: int
    """Datagrams, of both directions."""
    deepest: int
    """By how many datagrams the latest was overtaken."""
    twice: int
    retransmits: int
    """Segments that TCP sent again."""
    resent: int
    """Capsules that the agents sent again."""
    foreign: float
    """CPUs that others used meanwhile."""
    broken: str
    must_ms: float | None

    def line(self) -> str:
        what = f"{self.row}, {self.peer}, {self.carries}, {self.delay_ms:g} ms"
        figures = f"gap {self.gap_ms:7.1f} ms, resent {self.resent}, TCP again {self.retransmits}"
        if self.carries == "udp":
            figures = (
                f"gap {self.gap_ms:7.1f} ms, lost {self.lost}, depth {self.deepest}, "
                f"twice {self.twice}, resent {self.resent}"
            )
        return f"{self.system}: {what}: {figures}, foreign {self.foreign:.1f} {self.broken}"


def measure(system: str, stage: Stage, row: Row, kind: str, carries: str, rate: float) -> Outcome:
    """Bring the mover to the start of the row, let bytes flow, move, and look."""
    peer = stage.peers[kind]
    _go(stage, row.start)
    await_answer(stage, peer.address)
    peer.program.forget()
    before, (busy, own), began = _resent(stage), wall_cpu_s(stage.lab.name), time.perf_counter()
    with ExitStack() as stack:
        flow = _flow(stage, peer, carries, rate)
        stack.callback(flow.kill)
        taker = peer.program if carries == "up" else flow
        _await_flow(taker)
        watched = [stage.mover, *([peer.host] if row.name.startswith("both ends") else [])]
        watches = [stack.enter_context(Usable(host)) for host in watched]
        since = time.perf_counter()
        row.act(stage)
        if row.plug:
            since = time.perf_counter()
        if row.clipped:
            since = max([since, *(watch.await_usable() for watch in watches)])
        broken = _await_recovery(taker, max(since, time.perf_counter() - row.settle_s), row)
        flow.end()
        told = [report for each in (flow, peer.program) if (report := each.report(20)) is not None]
    after, (busy_now, own_now) = _resent(stage), wall_cpu_s(stage.lab.name)
    foreign = max(0.0, (busy_now - busy) - (own_now - own)) / (time.perf_counter() - began)
    broken = broken or next((text for each in told if (text := each.get("broken"))), "")
    if len(told) < 2:
        broken = broken or "no report"
    return Outcome(
        system,
        row.name,
        kind,
        carries,
        stage.delay_ms,
        PATIENCE_S * 1000 if broken else _gap_s(told, since) * 1000,
        _lost(told),
        max((each.get("deepest", 0) for each in told), default=0),
        sum(each.get("twice", 0) for each in told),
        sum(each.get("retransmits", 0) for each in told),
        after - before,
        foreign,
        broken,
        row.must_ms,
    )


def _flow(stage: Stage, peer: Peer, carries: str, rate: float) -> Program:
    place = (peer.address, str(PORT))
    if carries == "udp":
        return Program(stage.mover, "udp", *place, str(DATAGRAM_RATE))
    return Program(stage.mover, "tcp", *place, carries, str(rate))


def _await_flow(taker: Program) -> None:
    """Wait until bytes have come for a while."""
    first = None
    began = time.perf_counter()
    while first is None or time.perf_counter() - first < FLOW_S:
        if first is None and taker.at > began:
            first = time.perf_counter()
        if time.perf_counter() - began > PATIENCE_S:
            raise RuntimeError("no byte came before the move")
        time.sleep(0.02)


def _await_recovery(taker: Program, since: float, row: Row) -> str:
    """Wait until bytes come again, and a while longer; returns what is wrong."""
    began = time.perf_counter()
    while taker.at <= since + 0.05:
        if time.perf_counter() - began > PATIENCE_S:
            return "nothing came any more"
        time.sleep(0.01)
    time.sleep(row.settle_s)
    return ""


def _gap_s(told: list[dict[str, Any]], since: float) -> float:
    """The longest pause, as far as it lies after that moment."""
    pauses = [pause for each in told for pause in each.get("pauses", ())]
    return max((to - max(at, since) for at, to in pauses if to > since), default=0.0)


def _lost(told: list[dict[str, Any]]) -> int:
    flows = {each["udp"]: each for each in told if "udp" in each}
    if len(flows) < 2:
        return 0
    client, server = flows["client"], flows["server"]
    return (client["sent"] - server["taken"]) + (server["sent"] - client["taken"])


def _resent(stage: Stage) -> int:
    return resent(stage.agents)


def _go(stage: Stage, start: str) -> None:
    """Bring the mover where the row begins, by a single uplink."""
    here, mover = stage.where(stage.mover), stage.mover
    match start:
        case "home":
            alone = len(mover.uplinks) == 1 and mover.uplink.metric >= FIRST_METRIC
            if not (alone and here in stage.homes[:2]):
                mover.move(stage.homes[0], interface="eth0")
        case "firm":
            _move_to(stage, stage.homes[2], here)
        case "hotel":
            _move_to(stage, stage.homes[3], here)
        case families:
            uplink = mover.uplink if mover.uplinks else None
            has = "" if uplink is None else "4" * bool(uplink.ipv4) + "6" * bool(uplink.ipv6)
            if here is not stage.internet or has != families:
                ipv4, ipv6 = ("auto" if each in families else None for each in "46")
                mover.move(stage.internet, ipv4=ipv4, ipv6=ipv6)


def _move_to(stage: Stage, there: Network, here: Network | None) -> None:
    if here is not there:
        stage.mover.move(there)
