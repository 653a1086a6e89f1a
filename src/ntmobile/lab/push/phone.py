"""A phone's operating system, as far as push goes: gets a token, and runs a command at each push.

`python -m ntmobile.lab.push.phone SERVICE SERVER:PORT FILE [--key KEY] -- COMMAND...`

FILE gets what `ntm up --push` takes: `fcm:TOKEN`, `apns:TOKEN`, or for Web Push the subscription's
JSON. COMMAND stands for the app that the system starts: `ntm wake`. A message of Web Push is
decrypted first, and one that is not for this subscription starts nothing.
"""

import argparse
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import SystemRandom

import msgspec

from ntmobile.errors import DecodeError
from ntmobile.lab.push.device import Get
from ntmobile.lab.push.web import Browser
from ntmobile.proto.io import random_bytes


class _Line(msgspec.Struct):
    token: str = ""
    endpoint: str = ""
    body: bytes = b""


def main() -> None:
    """Run until the service goes away."""
    options = _parser().parse_args()
    host, _, port = options.server.rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port))) as link:
        link.sendall(msgspec.json.encode(Get(options.service, options.key)) + b"\n")
        _serve(options, _lines(link))


def _serve(options: argparse.Namespace, lines: Iterator[_Line]) -> None:
    first = next(lines)
    browser = None
    if options.service == "web":
        browser = Browser.at(first.endpoint, random_bytes(SystemRandom(), 16))
        _publish(options.file, browser.json())
    else:
        _publish(options.file, f"{options.service}:{first.token}".encode())
    for line in lines:
        try:
            message = line.body if browser is None else browser.read(line.body)
        except DecodeError as error:
            print(f"dropped: {error}", flush=True)
            continue
        print(f"pushed: {message.decode()}", flush=True)
        done = subprocess.run(options.command, capture_output=True, text=True, check=False)
        print(f"command: {done.returncode} {done.stdout}{done.stderr}", flush=True)


def _publish(file: Path, content: bytes) -> None:
    fresh = file.with_suffix(".new")
    fresh.write_bytes(content)
    os.replace(fresh, file)


def _lines(link: socket.socket) -> Iterator[_Line]:
    with link.makefile("rb") as lines:
        for line in lines:
            yield msgspec.json.decode(line, type=_Line)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="phone", description=__doc__)
    parser.add_argument("service", choices=("fcm", "apns", "web"))
    parser.add_argument("server")
    parser.add_argument("file", type=Path)
    parser.add_argument("--key")
    parser.add_argument("command", nargs="+")
    return parser


if __name__ == "__main__":
    main()
