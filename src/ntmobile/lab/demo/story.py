"""What happens in the demo: a name is asked for, a file downloaded, and the laptop moves twice."""

import json
import subprocess
import sys
import time
from collections.abc import Callable

from ntmobile.lab.demo.download import Arrival, Download
from ntmobile.lab.demo.findings import Findings, Move, SetUp
from ntmobile.lab.demo.measure import outages, right_hash, round_trips, set_up
from ntmobile.lab.demo.pings import Pings
from ntmobile.lab.demo.scene import LAPTOP, Scene, Way, Where
from ntmobile.lab.demo.screen import Screen
from ntmobile.lab.demo.setup import FILE, SIZE, SLOW, Stage
from ntmobile.lab.errors import LabError
from ntmobile.lab.ntm import NtmNode
from ntmobile.lab.waiting import wait_until
from ntmobile.runtime.clock import Clock
from ntmobile.time import SECOND

PORT = 8080
RATE = 16_000_000
"""Bytes a second: the download lasts eight seconds, however fast the machine is."""
MOVES = ((0.3, Where.CAFE), (0.65, Where.INTERNET))
"""After which part of the download the laptop moves, and where to."""
TICK_S = 0.15
PATIENCE_S = 20.0
LOOK_S = 1.5
"""How long the pings are watched before the download."""


class Story:
    """Told once, on a stage that stands."""

    def __init__(self, stage: Stage, scene: Scene, screen: Screen, clock: Clock) -> None:
        """Nothing has happened yet."""
        self._stage = stage
        self._scene = scene
        self._screen = screen
        self._clock = clock
        self._moves: list[Move] = []

    def tell(self) -> Findings:
        """Let it happen; raises LabError where it cannot go on."""
        stage = self._stage
        server = self._serve()
        met = self._ask(stage.tv)
        relayed = self._ask(stage.pc)
        pings = Pings(stage.laptop, stage.pc, self._scene, self._clock)
        wait_until(lambda: self._scene.way is not None, f"a pong of {stage.pc.fqdn}", PATIENCE_S)
        time.sleep(LOOK_S)
        self._say_way()
        download = self._download()
        right = self._compare(download)
        direct = self._ask(stage.phone)
        dead = stage.dead() + ([] if pings.running else ["ntm ping"])
        pings.stop()
        server.terminate()
        moves = stage.laptop.handovers()
        told = [move["outage_ms"] for move in moves if move["fqdn"] == stage.pc.fqdn]
        return Findings(
            stage.start_s,
            (met, relayed, direct),
            outages(download.arrivals, self._moves, told),
            round_trips(pings.answers, self._moves),
            SIZE,
            download.received,
            right,
            tuple(dead),
        )

    def _serve(self) -> "subprocess.Popen[str]":
        program = [sys.executable, "-m", "ntmobile.lab.demo.server"]
        directory, host = str(self._stage.file.parent), self._stage.pc.host
        server = host.popen([*program, directory, str(PORT), str(RATE)], stdout=subprocess.PIPE)
        assert server.stdout is not None
        if server.stdout.readline() != "ready\n":
            raise LabError(f"the HTTP server on {host.name} did not start")
        return server

    def _ask(self, peer: NtmNode) -> SetUp:
        laptop = self._stage.laptop
        self._screen.say(f"an application on the laptop asks DNS for {peer.fqdn}", "bold")
        dig = ["dig", "-u", "+tries=1", "+time=10", peer.fqdn, "AAAA"]
        said = laptop.host.run(dig).stdout
        trace = json.loads(laptop.ntm("trace", peer.fqdn, "--json").stdout)
        made = set_up(peer.fqdn, said, trace["steps"])
        self._screen.say(
            f"{made.query_ms:.0f} ms later a tunnel stands (the paper's {made.figure}); "
            f"DNS answers {made.address}",
            "green",
        )
        return made

    def _say_way(self) -> None:
        relayed = self._scene.way is Way.RELAY
        how = f"through {self._relay()}" if relayed else "directly, through both NATs"
        self._screen.say(f"ntm ping: capsules go {how}")

    def _relay(self) -> str:
        return f"RS of {self._stage.organisations[0].domain}, which cannot read them"

    def _download(self) -> Download:
        url = f"http://{self._stage.pc.fqdn}:{PORT}/{FILE}"
        self._screen.say(f"curl {url}", "bold")
        self._scene.size = SIZE
        download = Download(self._stage.laptop.host, url, self._clock)
        for part, goal in MOVES:
            enough = int(part * SIZE)
            self._follow(download, lambda enough=enough: download.received >= enough)  # type: ignore[misc]
            self._move(goal)
        self._follow(download, lambda: False)
        return download

    def _move(self, goal: Where) -> None:
        scene, host = self._scene, self._stage.laptop.host
        assert scene.where is not None
        origin, scene.where = scene.where, None
        self._screen.say(f"the laptop leaves the {origin} and joins the {goal}", "bold yellow")
        away = self._clock.now()
        uplink = host.move(self._stage.networks[goal])
        self._moves.append(Move(origin, goal, away, self._clock.now()))
        if goal is Where.INTERNET:
            self._stage.world.lab.impair(uplink, SLOW)
        scene.addresses[LAPTOP] = str(host.ipv4)
        scene.where = goal
        self._screen.say(f"its address is {host.ipv4} now; curl is not told")

    def _follow(self, download: Download, enough: Callable[[], bool]) -> None:
        before = Arrival(self._clock.now(), download.received)
        told_at = before.at
        while download.running and not enough():
            time.sleep(TICK_S)
            before = self._sample(download, before)
            if before.at - told_at >= 2 * SECOND:
                told_at = before.at
                self._screen.progress(so_far(self._scene))

    def _sample(self, download: Download, before: Arrival) -> Arrival:
        now = Arrival(self._clock.now(), download.received)
        self._scene.received = now.total
        self._scene.rates.append((now.total - before.total) * SECOND / (now.at - before.at))
        return now

    def _compare(self, download: Download) -> bool:
        right = right_hash(download.finish(), self._stage.pc.host, self._stage.file)
        verdict = "the very bytes that the pc has" if right else "NOT the bytes that the pc has"
        self._screen.say(
            f"the download is over, over one and the same TCP connection: {verdict}",
            "green" if right else "bold red",
        )
        return right


def so_far(scene: Scene) -> str:
    """Return how far the download is, in words."""
    part = scene.received / max(scene.size, 1)
    way = f", {scene.way}" if scene.way else ""
    return f"download: {part:.0%}, {scene.rates[-1] / 1e6:.1f} MB/s{way}"
