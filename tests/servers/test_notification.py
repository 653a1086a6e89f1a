"""How many nodes an NS can hold, and that it says so."""

import json
import os
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path
from random import Random

import pytest
from structlog.testing import capture_logs

from ntmobile.runtime.acceptor import allow_descriptors
from ntmobile.runtime.clock import Clock
from ntmobile.runtime.tasks import Tasks
from ntmobile.servers.config import Role, Site
from ntmobile.servers.notification import FEW, NotificationServer, capacity

ROOT = Path(__file__).parents[2]
ALLOWED = 2048
WITHOUT_RIGHT = ("setpriv", "--bounding-set=-sys_resource", "--inh-caps=-sys_resource")
"""Root may raise every limit; an ordinary user may not, nor may what runs behind this."""
LIMITED = f"""
import asyncio, json, resource
from tests.servers.test_notification import start

resource.setrlimit(resource.RLIMIT_NOFILE, ({ALLOWED} // 2, {ALLOWED}))
logs, holds = asyncio.run(start())
soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
print(json.dumps({{"soft": soft, "holds": holds, "logs": logs}}))
"""


async def start() -> tuple[list[dict[str, object]], int]:
    """Start an NS and end it; returns what it logged, and how many nodes it would hold."""
    site = Site(Role.NS, "ns", (ip_address("127.0.0.1"),), 443, 0)
    async with Tasks() as tasks:
        with capture_logs() as logs:
            made = NotificationServer(
                "example.org", site, entropy=Random(1), clock=Clock(), tasks=tasks
            )
        holds = made.machine.most
        made.close()
    return [dict(each) for each in logs], holds


@pytest.mark.parametrize(
    ("descriptors", "alone", "holds"),
    [
        (1_048_576, True, 250_000),
        (20_000, True, 19_000),
        (20_000, False, 15_000),
        (100_000, False, 90_000),
        (1024, True, 768),
        (1024, False, 768),
    ],
)
def test_descriptors_are_for_nodes_but_for_what_the_process_needs_itself(
    descriptors: int, alone: bool, holds: int
) -> None:
    assert capacity(descriptors, alone=alone) == holds


async def test_an_ns_says_at_its_start_how_many_nodes_it_can_hold() -> None:
    logs, holds = await start()

    assert holds == capacity(allow_descriptors(), alone=True)
    (started,) = [each for each in logs if each["event"] == "NS started"]
    assert (started["holds"], started["descriptors"]) == (holds, allow_descriptors())
    warned = "NS can hold few nodes" in [each["event"] for each in logs]
    assert warned is (holds < FEW)


def test_one_that_may_not_raise_its_limit_takes_all_there_is_and_names_the_remedy() -> None:
    """The negative twin."""
    drop = WITHOUT_RIGHT if os.geteuid() == 0 else ()
    command = [*drop, sys.executable, "-c", LIMITED]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=180, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)

    assert (told["soft"], told["holds"]) == (ALLOWED, ALLOWED - ALLOWED // 4)
    (warning,) = [each for each in told["logs"] if each["event"] == "NS can hold few nodes"]
    assert "LimitNOFILE" in warning["next"]
