"""Packets as they were seen at a machine."""

import os
import signal
import socket
import subprocess
import tempfile
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

from ntmobile.lab.errors import LabError
from ntmobile.lab.namespace import Namespace
from ntmobile.lab.waiting import wait_until

END_ADDRESS = "127.255.255.254"
END_PORT = 9
END = b"the capture ends here"
"""Sent to the machine itself, behind all packets: tcpdump, told to end, ends without
reading what is still in its queue."""
TAIL = 1 << 16
"""How much of the file is looked through for it, from the end."""
AGAIN = 400
"""Looks, of 5 ms and more, after which it is sent again: a full queue has lost it."""


class Capture:
    """A running tcpdump on all interfaces; as a context manager it stops at the end."""

    def __init__(self, machine: Namespace, expression: str) -> None:
        """Start, and return when packets are being recorded."""
        with tempfile.NamedTemporaryFile(prefix="ntmobile-", suffix=".pcap", delete=False) as file:
            self.file = Path(file.name)
            """The packets, in pcap format; complete once stopped, the caller's then."""
        wanted = f"({expression}) or dst host {END_ADDRESS}" if expression else ""
        self._machine = machine
        # As root: its own user may not write where the caller may. Not in immediate
        # mode, which has room for eight packets; so the last second comes late.
        options = ["-n", "-U", "-Z", "root", "-i", "any"]
        self._tcpdump = machine.popen(
            ["tcpdump", *options, "-w", str(self.file), wanted],
            stderr=subprocess.PIPE,
        )
        self._await_ready()

    def stop(self) -> Path:
        """Write out what was recorded and return the file."""
        if self._tcpdump.poll() is None:
            looks = count()
            with self._machine.socket() as sender:
                wait_until(lambda: self._has_end(sender, next(looks)), "tcpdump to catch up")
            self._tcpdump.send_signal(signal.SIGINT)
            self._tcpdump.communicate(timeout=30)
            self._cut_end()
        return self.file

    def packets(self) -> list[str]:
        """Stop, and return one line of text for each packet, oldest first."""
        shown = self._machine.run(["tcpdump", "-n", "-r", str(self.stop())])
        return shown.stdout.splitlines()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop, and remove the file."""
        self.stop()
        self.file.unlink(missing_ok=True)

    def _await_ready(self) -> None:
        assert self._tcpdump.stderr is not None
        said = ""
        for line in self._tcpdump.stderr:
            said += line
            if "listening on" in line:
                return
        raise LabError(f"tcpdump: {said.strip()}")

    def _has_end(self, sender: socket.socket, look: int) -> bool:
        if look % AGAIN == 0:
            sender.sendto(END, (END_ADDRESS, END_PORT))
        with self.file.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            return END in file.read()

    def _cut_end(self) -> None:
        whole = self.file.with_suffix(".whole")
        self.file.rename(whole)
        command = ["tcpdump", "-n", "-Z", "root", "-r", str(whole)]
        others = ["not", "dst", "host", END_ADDRESS]
        self._machine.run([*command, "-w", str(self.file), *others])
        whole.unlink()
