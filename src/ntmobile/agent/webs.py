"""The node's WebSockets to DC and RS, where UDP is blocked: opened and kept as the machine says.

Ours: docs/protocol.md section 3.
"""

import asyncio
from collections.abc import Callable

import structlog

from ntmobile.agent.detours import Detours
from ntmobile.proto.node.events import CloseWeb, OpenWeb, WebCommand
from ntmobile.runtime.https import DomainKey, HttpsError, Place, Way
from ntmobile.runtime.tasks import Tasks
from ntmobile.runtime.websocket import Carrier, loopback_socket
from ntmobile.runtime.websocket_client import open_websocket
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.web import DC_PATH, RS_PATH

HERE = "127.0.0.1"
FIRST_AGAIN_S = 1.0
LONGEST_AGAIN_S = 30.0
_LOG = structlog.get_logger(__name__)


class Webs:
    """All WebSockets of one node; `carry_out` is where the machine's commands go."""

    def __init__(
        self,
        port: int,
        way: Way,
        detours: Detours,
        report: Callable[[Endpoint, bool], None],
        tasks: Tasks,
    ) -> None:
        """Port is the packet loops'; report is told when a WebSocket stands or is no more."""
        self._engine = Endpoint(HERE, port)
        self._way = way
        self._detours = detours
        self._report = report
        self._tasks = tasks
        self._running: dict[Endpoint, asyncio.Task[None]] = {}
        self._carriers: dict[Endpoint, Carrier] = {}
        self.trouble: str | None = None
        """Why the last one could not be opened; None since one stood."""

    def carry_out(self, command: WebCommand) -> None:
        """Open or close one; opening again what is open begins anew."""
        self._end(command.remote)
        match command:
            case OpenWeb(remote):
                keeping = self._keep(command)
                self._running[remote] = self._tasks.start(keeping, "WebSocket")
            case CloseWeb():
                pass

    def close(self) -> None:
        """Close them all."""
        for remote in tuple(self._running):
            self._end(remote)

    def _end(self, remote: Endpoint) -> None:
        if (task := self._running.pop(remote, None)) is not None:
            task.cancel()
        if (carrier := self._carriers.pop(remote, None)) is not None:
            carrier.close()
        self._detours.drop(remote)

    async def _keep(self, wanted: OpenWeb) -> None:
        """One to a DC once, for the machine says when to try again; one to an RS all the time."""
        wait_s = FIRST_AGAIN_S
        while True:
            over = asyncio.Event()
            if await self._open(wanted, over):
                wait_s = FIRST_AGAIN_S
                await over.wait()
                self._carriers.pop(wanted.remote, None)
                self._detours.drop(wanted.remote)
            self._report(wanted.remote, False)
            if not wanted.relay:
                return
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_AGAIN_S)

    async def _open(self, wanted: OpenWeb, over: asyncio.Event) -> bool:
        remote, host = wanted.remote, wanted.place.host
        place = Place(host, (Endpoint(remote.host, wanted.place.port),))
        trust = DomainKey(wanted.place.domain, wanted.place.domain_key)
        path = RS_PATH if wanted.relay else DC_PATH
        try:
            udp = loopback_socket(HERE, self._engine)
            here = Endpoint(*udp.getsockname())
            if wanted.relay:
                self._detours.lead(remote, here)
            carrier = await open_websocket(place, trust, path, udp, way=self._way, ended=over.set)
        except (HttpsError, OSError) as error:
            self.trouble = str(error)
            self._detours.drop(remote)
            _LOG.warning("no WebSocket", of="RS" if wanted.relay else "DC")
            return False
        self.trouble = None
        self._carriers[remote] = carrier
        if not wanted.relay:
            self._detours.lead(remote, here)
        _LOG.info("WebSocket stands", of="RS" if wanted.relay else "DC")
        self._report(remote, True)
        return True
