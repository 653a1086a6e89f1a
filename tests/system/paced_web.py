"""A web server that sends at an even pace: DIRECTORY PORT BYTES_PER_SECOND. Run as a program.

The pace makes a transfer last, without the full buffers on the way behind which a gap would hide.
"""

import sys
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET6
from typing import BinaryIO

CHUNK = 1 << 15


class Server(ThreadingHTTPServer):
    """On all addresses of both families."""

    address_family = AF_INET6


class Handler(SimpleHTTPRequestHandler):
    """Sends files, but not faster than told."""

    def __init__(self, rate: int, *arguments: object, directory: str) -> None:
        self._rate = rate
        super().__init__(*arguments, directory=directory)  # type: ignore[arg-type]

    def copyfile(self, source: BinaryIO, outputfile: BinaryIO) -> None:  # type: ignore[override]
        began, sent = time.perf_counter(), 0
        while part := source.read(CHUNK):
            outputfile.write(part)
            sent += len(part)
            time.sleep(max(0.0, began + sent / self._rate - time.perf_counter()))

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main(directory: str, port: str, rate: str) -> None:
    """Serve until killed."""
    handler = partial(Handler, int(rate), directory=directory)
    with Server(("::", int(port)), handler) as server:
        server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
