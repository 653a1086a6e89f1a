"""What the user's choice of keep-alive means to the machine; `auto` measures this network first.

Until it is measured the node keeps alive by UDP as its DC asks. Each network is measured once, when
the node registers from it: how long idle UDP mappings live decides.
Ours: docs/protocol.md section 9.
"""

import asyncio
from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

import structlog

from ntmobile.agent.records import KeepAlive
from ntmobile.proto.node.lifetime import LifetimeFound
from ntmobile.proto.node.reach import fitting
from ntmobile.runtime.tasks import Tasks
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.registration import KeepAliveChoice

_LOG = structlog.get_logger(__name__)

Choose = Callable[[KeepAliveChoice, int], None]


class Examiner(Protocol):
    """What measures a network: agent.examination."""

    async def find_lifetime(self, server: Endpoint) -> LifetimeFound:
        """Find out how long idle mappings live; raises OSError."""
        ...


def first_choice(choice: KeepAlive) -> KeepAliveChoice:
    """Return what is asked of the DC before anything is measured."""
    return KeepAliveChoice.UDP if choice is KeepAlive.AUTO else KeepAliveChoice(choice)


class Tuner:
    """Measures the network for `auto`; for any other choice it does nothing."""

    def __init__(
        self, choice: KeepAlive, examination: Examiner, choose: Choose, tasks: Tasks
    ) -> None:
        """Choose is given the way and the seconds between UDP keep-alives (0: as the DC says)."""
        self.found: LifetimeFound | None = None
        """Between which times idle mappings die here; None while that is not known."""
        self._choice = choice
        self._examination = examination
        self._choose = choose
        self._tasks = tasks
        self._network: Hashable = None
        self._measuring: asyncio.Task[None] | None = None

    @property
    def choice(self) -> KeepAlive:
        """The user's."""
        return self._choice

    def set_choice(self, choice: KeepAlive, servers: Sequence[Endpoint]) -> None:
        """The user chose anew, and the node knows what that means before anything is measured."""
        self._choice = choice
        self._begin(servers)

    def handle_network(self, network: Hashable, servers: Sequence[Endpoint]) -> None:
        """The node registered from a network; servers are where its DC is, one a family.

        The same network again, as after its NAT gave the node another port, is not measured anew.
        """
        if network != self._network:
            self._network = network
            self._begin(servers)

    def _begin(self, servers: Sequence[Endpoint]) -> None:
        if self._measuring is not None:
            self._measuring.cancel()
            self._measuring = None
        self.found = None
        if self._choice is KeepAlive.AUTO and servers:
            self._measuring = self._tasks.start(self._measure(servers), "mapping lifetime")

    async def _measure(self, servers: Sequence[Endpoint]) -> None:
        try:
            found = await asyncio.gather(*map(self._examination.find_lifetime, servers))
        except OSError as error:
            _LOG.warning("mapping lifetime not measured", why=str(error))
            self.found = LifetimeFound(0, None)
            return
        worst = self.found = min(found, key=lambda each: each.alive_s)
        choice, interval_s = fitting(worst.alive_s)
        _LOG.info(
            "network measured",
            alive_s=worst.alive_s,
            dead_s=worst.dead_s,
            keepalive=str(choice),
        )
        self._choose(choice, interval_s)
