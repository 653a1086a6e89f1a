"""Serves the files of a directory by HTTP, at a steady pace.

The program that the demo downloads from: ``python -m ntmobile.lab.demo.server DIR PORT RATE``,
with the rate in bytes a second; prints `ready` when it may be asked.
"""

import sys
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET6
from typing import Any, BinaryIO

from ntmobile.runtime.clock import Clock
from ntmobile.time import SECOND

BLOCK = 1 << 16


class Server(ThreadingHTTPServer):
    """Python's own, for both families."""

    address_family = AF_INET6


class Paced(SimpleHTTPRequestHandler):
    """Python's own, but no faster than a rate."""

    def __init__(self, *arguments: Any, rate: int, **options: Any) -> None:  # noqa: ANN401
        """Answer one connection; rate is in bytes a second."""
        self._rate = rate
        super().__init__(*arguments, **options)

    def copyfile(self, source: BinaryIO, outputfile: BinaryIO) -> None:  # type: ignore[override]
        """Send a file; what an outage held up is caught up with."""
        clock = Clock()
        began, sent = clock.now(), 0
        while block := source.read(BLOCK):
            outputfile.write(block)
            sent += len(block)
            ahead_s = sent / self._rate - (clock.now() - began) / SECOND
            time.sleep(max(0.0, ahead_s))

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: ANN401
        """Say nothing."""


def main() -> None:
    """Serve until the process is ended."""
    directory, port, rate = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with Server(("::", port), partial(Paced, directory=directory, rate=rate)) as server:
        print("ready", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
