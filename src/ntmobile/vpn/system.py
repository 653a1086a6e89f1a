"""The operating system behind a Unix socket: what `attach` wants to be given, from another process.

That process (`python -m ntmobile.vpn.linux` is one) has the rights that the node lacks.
"""

import asyncio
import socket
from collections.abc import Callable
from contextlib import ExitStack
from errno import EPERM
from pathlib import Path
from types import TracebackType
from typing import Self

from ntmobile.vpn.configuration import Configuration, Network
from ntmobile.vpn.messages import (
    LONGEST,
    Message,
    decode,
    encode,
    network_of,
    of_configuration,
)

PATIENCE_S = 10.0
"""Of a node for its operating system."""
MOST_DESCRIPTORS = 1


class System:
    """Gives `protect`, `configure` and `network` to `attach`."""

    def __init__(self, place: str | Path) -> None:
        """Place is the path of the Unix socket."""
        self._place = str(place)
        self._stack = ExitStack()
        self._answer: asyncio.Future[int | None] | None = None
        self.network: Network | None = None
        """Where the machine is."""
        self.on_network: Callable[[Network | None], None] = lambda network: None
        """Called when it is elsewhere; Vpn.network_changed wants that."""

    async def __aenter__(self) -> Self:
        """Connects, and hears where the machine is; raises OSError."""
        with ExitStack() as stack:
            # Protecting cannot wait for the event loop, so it has a connection of its own.
            self._asking = self._connect("protect", stack)
            self._control = self._connect("control", stack)
            self._read_control()
            self._control.setblocking(False)
            loop = asyncio.get_running_loop()
            loop.add_reader(self._control, self._read_control)
            stack.callback(loop.remove_reader, self._control)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Disconnects."""
        self._stack.close()

    def protect(self, descriptor: int) -> None:
        """Have a socket kept out of the device; raises OSError."""
        socket.send_fds(self._asking, [encode({"protect": True})], [descriptor])
        _check(decode(self._asking.recv(LONGEST)))

    async def configure(self, configuration: Configuration) -> int | None:
        """Have the device set up; returns its descriptor when it is another. Raises OSError."""
        self._answer = asyncio.get_running_loop().create_future()
        self._control.send(encode(of_configuration(configuration)))
        async with asyncio.timeout(PATIENCE_S):
            return await self._answer

    def _connect(self, purpose: str, stack: ExitStack) -> socket.socket:
        made = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        made.settimeout(PATIENCE_S)
        made.connect(self._place)
        made.send(encode({"hello": purpose}))
        _check(decode(made.recv(LONGEST)))
        return made

    def _read_control(self) -> None:
        try:
            packet, descriptors, _, _ = socket.recv_fds(self._control, LONGEST, MOST_DESCRIPTORS)
        except BlockingIOError:
            return
        if not packet:
            self._lose()
            return
        message = decode(packet)
        if "network" in message:
            self.network = network_of(message)
            self.on_network(self.network)
        else:
            self._settle(message, descriptors)

    def _settle(self, message: Message, descriptors: list[int]) -> None:
        answer, self._answer = self._answer, None
        if answer is None or answer.done():
            for descriptor in descriptors:
                socket.close(descriptor)
            return
        try:
            _check(message)
        except OSError as error:
            answer.set_exception(error)
        else:
            answer.set_result(descriptors[0] if descriptors else None)

    def _lose(self) -> None:
        """The other process is gone, and with it the network that it told of."""
        asyncio.get_running_loop().remove_reader(self._control)
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("the operating system's part ended"))
        self.network = None
        self.on_network(None)


def _check(answer: Message) -> None:
    if not answer.get("ok"):
        raise OSError(EPERM, str(answer.get("why", "refused")))
