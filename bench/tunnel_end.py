"""One end of a tunnel with fixed keys: what the benchmark and the lab tests run.

python bench/tunnel_end.py a|b --device NAME --port N --peer HOST:PORT [--mtu N]
[--path-mtu N] [--no-offload]. Prints "ready" and works until its standard input ends, then
prints its counters as JSON.
"""

import argparse
import json
import os
import subprocess
import sys
from ipaddress import ip_address

from ntmobile._core import Engine, open_tun

INDEX = {"a": 0xA, "b": 0xB}
KEYS = {"a": bytes([0xA]) * 32, "b": bytes([0xB]) * 32}
IPV4 = {"a": "100.64.0.1", "b": "100.64.0.2"}
IPV6 = {"a": "fd00:6e74::1", "b": "fd00:6e74::2"}


def main() -> None:
    options = parse()
    device, name, offload = open_tun(options.device, offload=not options.no_offload)
    engine = Engine(port=options.port)
    engine.attach_tun(device, offload=offload)
    configure(name, options.side, options.mtu)
    connect(engine, options)
    print("ready", flush=True)
    sys.stdin.read()
    index = INDEX[options.side]
    statistics = engine.statistics(index)
    figures = {
        "offload": offload,
        "rx_packets": statistics.rx_packets,
        "tx_packets": statistics.tx_packets,
    }
    print(json.dumps(figures | engine.counters()), flush=True)
    engine.close()
    os.close(device)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("side", choices=["a", "b"])
    parser.add_argument("--device", required=True)
    parser.add_argument("--port", type=int, default=4330)
    parser.add_argument("--peer", required=True)
    parser.add_argument("--mtu", type=int, default=1420)
    parser.add_argument("--path-mtu", type=int, help="the device's, unless given")
    parser.add_argument("--no-offload", action="store_true")
    return parser.parse_args()


def configure(device: str, side: str, mtu: int) -> None:
    for command in (
        f"link set {device} mtu {mtu} txqueuelen 1000 up",
        f"addr add {IPV4[side]}/24 dev {device}",
        f"addr add {IPV6[side]}/64 dev {device} nodad",
    ):
        subprocess.run(["ip", *command.split()], check=True)


def connect(engine: Engine, options: argparse.Namespace) -> None:
    own, peer = options.side, "b" if options.side == "a" else "a"
    index = INDEX[own]
    engine.open_tunnel(
        index,
        own_ipv4=packed(IPV4[own]),
        own_ipv6=packed(IPV6[own]),
        peer_ipv4=packed(IPV4[peer]),
        peer_ipv6=packed(IPV6[peer]),
    )
    engine.install_keys(index, 0, "aes-256-gcm", KEYS[own], KEYS[peer], INDEX[peer])
    host, _, port = options.peer.rpartition(":")
    engine.set_path(index, packed(host), int(port), mtu=options.path_mtu or options.mtu)
    engine.activate_keys(index, 0)


def packed(address: str) -> bytes:
    return ip_address(address).packed


if __name__ == "__main__":
    main()
