"""Same seed, same run: whatever Python hashes, packet for packet."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import sys
from hashlib import sha256
from ntmobile.sim.quality import MILLISECOND, Quality
from ntmobile.sim.traffic import Stream
from ntmobile.sim.world import World

bad = Quality(10 * MILLISECOND, 3 * MILLISECOND, loss=0.1, duplication=0.1, reordering=0.1)
world, digest = World(int(sys.argv[1]), bad), sha256()
world.internet.core.taps.append(lambda packet: digest.update(repr((world.now, packet)).encode()))
org, net = world.organisation(), world.organisation("example.net")
peers = [world.node(f"pc{n}.bob", net, world.internet.home(f"home{n}")) for n in range(4)]
mn = world.node("laptop.alice", org, world.internet.home("mn home"))
for peer in peers:
    world.connect(mn, peer)
to = mn.machine.peers()[0].virtual_ipv6
stream = Stream(mn, to, peers[0], 200)
world.run_for(1)
world.move(mn, world.internet.home("cafe"))
net.revoke(peers[3].fqdn)
org.revoke(mn.fqdn)
world.run_for(30)
print(digest.hexdigest())
"""


@pytest.fixture(scope="module")
def runs() -> dict[tuple[int, int], str]:
    """Digest of all packets, by seed and PYTHONHASHSEED."""
    return {(seed, hashing): digest(seed, hashing) for seed, hashing in ((1, 1), (1, 2), (2, 1))}


def test_one_seed_gives_one_run_under_two_hash_seeds(runs: dict[tuple[int, int], str]) -> None:
    assert runs[1, 1] == runs[1, 2]


def test_another_seed_gives_another_run(runs: dict[tuple[int, int], str]) -> None:
    assert runs[1, 1] != runs[2, 1]


def digest(seed: int, hashing: int) -> str:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(seed)],
        env={**os.environ, "PYTHONHASHSEED": str(hashing)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
