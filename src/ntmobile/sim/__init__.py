"""A simulated internet that runs the real machines in virtual time; public, for anyone's tests.

A run is a story told to a `World`::

    world = World(seed=1)
    org = world.organisation("example.org")
    laptop = world.node("laptop.alice", org, world.internet.home("home", HARD))
    phone = world.node("phone.alice", org)
    world.connect(laptop, phone)
    world.move(laptop, world.internet.home("cafe"))
    assert world.echo(laptop, phone, b"hello")

The same seed and the same story give the same run, byte for byte. A machine that raises or spins
ends the run with a SimulationError that carries the last steps.

| module | is |
|---|---|
| `world`, `organisation`, `node`, `servers` | the verbs of a story, and who takes part |
| `internet`, `network`, `gateway`, `nat`, `host`, `quality` | the network; NATs by RFC 4787 |
| `exchange`, `directory`, `web` | HTTPS and DNS, in counted one-way delays |
| `plane`, `inner`, `traffic` | packet loops over the real capsules; applications that measure |
| `recorder`, `chart`, `figures` | what happened, drawn as the paper draws it |
"""

from ntmobile.sim.errors import SimulationError
from ntmobile.sim.nat import EASY, HARD, NatBehaviour
from ntmobile.sim.quality import MILLISECOND, Quality
from ntmobile.sim.world import World
from ntmobile.wire.nat import Behaviour, PortAssignment

__all__ = [
    "EASY",
    "HARD",
    "MILLISECOND",
    "Behaviour",
    "NatBehaviour",
    "PortAssignment",
    "Quality",
    "SimulationError",
    "World",
]
