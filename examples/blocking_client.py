"""Ask a node's web application from code that blocks: python blocking_client.py STATE NAME."""

import sys

import httpx

import ntmobile
from ntmobile.sockets.web import BlockingHttpTransport

state, name = sys.argv[1:]
with (
    ntmobile.blocking.open(state) as node,
    httpx.Client(transport=BlockingHttpTransport(node)) as client,
):
    print(client.get(f"http://{name}/").text)
    with node.create_connection((name, 80), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        with connection.makefile("rb") as answer:
            print(answer.readline().decode().rstrip())
