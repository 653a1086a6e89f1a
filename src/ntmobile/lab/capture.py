"""Packets as they were seen at a machine."""

import re
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from ntmobile.lab.errors import LabError
from ntmobile.lab.namespace import Namespace


class Capture:
    """A running tcpdump; as a context manager it stops at the end."""

    def __init__(self, machine: Namespace, expression: str, interface: str) -> None:
        """Start, and return when packets are being recorded."""
        with tempfile.NamedTemporaryFile(prefix="ntmobile-", suffix=".pcap", delete=False) as file:
            self.file = Path(file.name)
            """The packets, in pcap format; complete once stopped, the caller's then."""
        # Immediate mode: else the last block of packets dies with the process.
        options = ["-n", "-U", "--immediate-mode", "-Z", "root", "-i", interface]
        words = [expression] if expression else []
        self._machine = machine
        self._tcpdump = machine.popen(
            ["tcpdump", *options, "-w", str(self.file), *words], stderr=subprocess.PIPE
        )
        self._await_ready()

    def stop(self) -> Path:
        """Write out what was recorded and return the file."""
        if self._tcpdump.poll() is None:
            self._tcpdump.send_signal(signal.SIGINT)
            self._tcpdump.communicate(timeout=5)
        return self.file

    def packets(self) -> list[str]:
        """Stop, and return one line of text for each packet, oldest first."""
        self.stop()
        shown = self._machine.run(["tcpdump", "-n", "-r", str(self.file)])
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
            if re.search(r"listening on", line):
                return
        raise LabError(f"tcpdump: {said.strip()}")
