"""Times a first contact as an application sees it; run as a program on a machine of the lab.

``first_byte.py serve`` echoes on PORT. ``first_byte.py NAME`` looks the name up, connects, has one
byte echoed and prints a JSON object: seconds from the DNS query to the DNS answer, and to the byte.
"""

import json
import socket
import socketserver
import sys
import time

PORT = 7
PATIENCE_S = 60.0


class Echo(socketserver.BaseRequestHandler):
    """Sends back what it gets."""

    def handle(self) -> None:
        while data := self.request.recv(4096):
            self.request.sendall(data)


def serve() -> None:
    """Echo until killed."""
    with socketserver.ThreadingTCPServer(("", PORT), Echo) as server:
        server.serve_forever()


def ask(name: str) -> dict[str, float]:
    """Return how long the answer and the first echoed byte took, in seconds."""
    began = time.perf_counter()
    [(_, _, _, _, address), *_] = socket.getaddrinfo(name, PORT, socket.AF_INET, socket.SOCK_STREAM)
    answered = time.perf_counter()
    with socket.create_connection(address[:2], timeout=PATIENCE_S) as connection:
        connection.sendall(b"?")
        assert connection.recv(1) == b"?"
    return {"answer_s": answered - began, "byte_s": time.perf_counter() - began}


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        print(json.dumps(ask(sys.argv[1])))
