"""The kinds of moves. Each begins where the mover is at the first two homes, or goes there."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from moves.stage import Stage
from ntmobile.lab import Host, Impairment, Nat

Act = Callable[[Stage], None]
NAP_S = 5.0
REPEATED_MS = "100"
LOSS = 0.2
LOSSY_S = 2.0
SECOND = "wlan0"
TOGETHER_S = 1.0
"""How long two uplinks stand side by side."""


@dataclass(frozen=True)
class Row:
    """One kind of move."""

    name: str
    act: Act
    start: str = "home"
    """home, firm, hotel, or which families the mover has on the internet: 4, 6, 46."""
    peers: tuple[str, ...] = ("relayed", "punched", "direct")
    by_whom: tuple[str, ...] = ("down", "up")
    """What is carried meanwhile, as the mover sees it: a download, an upload, datagrams."""
    must_ms: float | None = None
    """Beyond a round trip, what goals.md grants median and 90th percentile."""
    nobody_else: bool = False
    """Needs servers or agents of NTMobile."""
    lossless: bool = False
    """Another uplink is there all the time: no datagram may be lost."""
    clipped: bool = True
    """The gap counts from the moment the new address is usable, not from the beginning."""
    plug: bool = False
    """The other end of the wire must be up again too before anything passes."""
    hole_s: float = 0.0
    settle_s: float = 1.2
    """How long deliveries are watched after the first that comes again."""


def another_nat(stage: Stage) -> None:
    stage.mover.move(stage.other_home())


def both_ends(stage: Stage) -> None:
    pc = _pc(stage)
    to = stage.offices[1] if stage.where(pc) is stage.offices[0] else stage.offices[0]
    stage.mover.move(stage.other_home())
    pc.move(to)


def reboot(stage: Stage) -> None:
    _home(stage).reboot()


def reboot_elsewhere(stage: Stage) -> None:
    _home(stage).reboot(new_address=True)


def both_reboot(stage: Stage) -> None:
    office = next(each for each in stage.offices if each is stage.where(_pc(stage)))
    _home(stage).reboot(new_address=True)
    office.reboot(new_address=True)


def to_ipv4(stage: Stage) -> None:
    stage.mover.move(stage.internet, ipv6=None)


def to_ipv6(stage: Stage) -> None:
    stage.mover.move(stage.internet, ipv4=None)


def to_both(stage: Stage) -> None:
    stage.mover.move(stage.internet)


def into_blocked(stage: Stage) -> None:
    stage.mover.move(stage.homes[2])


def out_of_blocked(stage: Stage) -> None:
    stage.mover.move(stage.homes[0])


def hole(seconds: float) -> Act:
    """Nothing passes for so long; then the same network is back.

    A wire whose plug is put back swallows what comes before its other end is up too; the system
    would repeat a query for a neighbour among it after a second only, whoever carries the bytes.
    """

    def act(stage: Stage) -> None:
        name = f"ipv4/neigh/{stage.mover.uplink.interface}/retrans_time_ms"
        stage.mover.configure({name: REPEATED_MS})
        stage.mover.set_carrier(False)
        time.sleep(seconds)
        stage.mover.set_carrier(True)

    return act


def sleep_and_wake(stage: Stage) -> None:
    """The machine sleeps at home and wakes in the cafe."""
    to = stage.other_home()
    os.kill(stage.agent_pid, signal.SIGSTOP)
    try:
        stage.mover.drop_uplink()
        time.sleep(NAP_S)
        stage.mover.add_uplink(to)
    finally:
        os.kill(stage.agent_pid, signal.SIGCONT)


def lossy(stage: Stage) -> None:
    to = stage.other_home()
    made = None
    if (link := stage.wires.get(to.name)) is None:
        link = made = stage.lab.impair(to, Impairment())
    link.set(Impairment(delay_ms=stage.wire_ms, loss=LOSS))
    stage.mover.move(to)
    time.sleep(LOSSY_S)
    link.set(Impairment(delay_ms=stage.wire_ms))
    if made is not None:
        made.remove()


def without_coordinators(stage: Stage) -> None:
    for process in stage.coordinators:
        process.send_signal(signal.SIGSTOP)
    try:
        stage.mover.move(stage.other_home())
        time.sleep(LOSSY_S)
    finally:
        for process in stage.coordinators:
            process.send_signal(signal.SIGCONT)


def better_uplink(stage: Stage) -> None:
    """A better uplink comes while the old one works; then the old one goes."""
    old = stage.mover.uplink.interface
    new = SECOND if old != SECOND else "eth0"
    stage.mover.move(stage.other_home(), keep_old=True, interface=new)
    time.sleep(TOGETHER_S)
    stage.mover.drop_uplink(old)


def spare_uplink(stage: Stage) -> None:
    """A second uplink stands by; the first one's plug is pulled."""
    old = stage.mover.uplink.interface
    new = SECOND if old != SECOND else "eth0"
    stage.mover.add_uplink(stage.other_home(), interface=new)
    time.sleep(TOGETHER_S)
    stage.mover.drop_uplink(old)
    time.sleep(TOGETHER_S)


def _pc(stage: Stage) -> Host:
    return stage.peers["relayed"].host


def _home(stage: Stage) -> Nat:
    return next(each for each in stage.homes if each is stage.where(stage.mover))


RELAYED = ("relayed",)
ALL = ("udp", "down", "up")

ROWS = (
    Row("another NAT", another_nat, must_ms=50, by_whom=ALL),
    Row("both ends at once", both_ends, peers=RELAYED, must_ms=50, by_whom=ALL),
    Row(
        "a better uplink, then the old one goes",
        better_uplink,
        by_whom=ALL,
        lossless=True,
        clipped=False,
    ),
    Row(
        "the first uplink goes, a second stands by",
        spare_uplink,
        by_whom=ALL,
        lossless=True,
        clipped=False,
    ),
    Row("NAT reboots", reboot, clipped=False, by_whom=ALL),
    Row("NAT reboots, with other ports", reboot, start="hotel", clipped=False, by_whom=ALL),
    Row("NAT reboots, with another address", reboot_elsewhere, clipped=False, by_whom=ALL),
    Row("NATs of both ends reboot so", both_reboot, peers=RELAYED, clipped=False, by_whom=ALL),
    Row("IPv4 only to IPv6 only", to_ipv6, start="4", by_whom=ALL),
    Row("IPv6 only to IPv4 only", to_ipv4, start="6", by_whom=ALL),
    Row("IPv4 only to both", to_both, start="4", by_whom=ALL),
    Row("both to IPv6 only", to_ipv6, start="46", by_whom=ALL),
    Row("into a network that blocks UDP", into_blocked, nobody_else=True, by_whom=ALL),
    Row("out of it", out_of_blocked, start="firm", nobody_else=True, settle_s=4.0, by_whom=ALL),
    Row("hole of 1 s", hole(1), must_ms=200, hole_s=1, plug=True),
    Row("hole of 10 s", hole(10), must_ms=200, hole_s=10, plug=True),
    Row("hole of 60 s", hole(60), must_ms=200, hole_s=60, plug=True),
    Row("hole of 3 min", hole(180), hole_s=180, plug=True),
    Row("hole of 5 min", hole(300), hole_s=300, plug=True),
    Row("sleeps 5 s, wakes elsewhere", sleep_and_wake, nobody_else=True, hole_s=NAP_S, by_whom=ALL),
    Row("20 % loss meanwhile", lossy, settle_s=3.0, by_whom=ALL),
    Row("DCs hang meanwhile", without_coordinators, nobody_else=True, by_whom=ALL),
)
