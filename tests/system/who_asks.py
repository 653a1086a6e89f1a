"""A web server that answers with the address of whoever asks: python who_asks.py PORT."""

import http.server
import socket
import sys


class WhoAsks(http.server.BaseHTTPRequestHandler):
    """Answers every GET."""

    def do_GET(self) -> None:
        body = self.client_address[0].removeprefix("::ffff:").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    """In both families."""

    address_family = socket.AF_INET6


if __name__ == "__main__":
    Server(("::", int(sys.argv[1])), WhoAsks).serve_forever()
