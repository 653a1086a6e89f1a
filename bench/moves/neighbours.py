"""wireguard-go and nebula on the stage: their peer has an address of its own, as they need one."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from moves.stage import Stage, await_answer, networks
from ntmobile._core import x25519_public
from ntmobile.lab import Host, Lab

BUILT = Path(__file__).resolve().parent.parent.parent / "build/bench"
WIREGUARD = "golang.zx2c4.com/wireguard"
NEBULA = "github.com/slackhq/nebula"
NEBULA_VERSION = "v1.10.3"
"""The newest that Go 1.26 builds."""
PORT = 4330
INNER = ("100.64.0.1", "100.64.0.2")
KEEPALIVE_S = 25

Make = Callable[[float], AbstractContextManager[Stage]]

NEBULA_SETTINGS = """
pki: {{ca: {ca}, cert: {certificate}, key: {key}}}
static_host_map: {hosts}
lighthouse: {{am_lighthouse: {leads}, interval: 10, hosts: {lighthouses}}}
listen: {{host: "::", port: {port}}}
punchy: {{punch: true, respond: true}}
tun: {{dev: neb0, mtu: 1300}}
logging: {{level: error}}
firewall:
  outbound: [{{port: any, proto: any, host: any}}]
  inbound: [{{port: any, proto: any, host: any}}]
"""


def available(wanted: Sequence[str]) -> Iterator[tuple[str, Make]]:
    """The neighbours that are wanted and can be built here."""
    makers = {"wireguard-go": wireguard_go, "nebula": nebula}
    asked = {name: make for name, make in makers.items() if name in wanted or "" in wanted}
    for name, make in asked.items():
        if shutil.which("go") or (BUILT / name).exists():
            yield name, make
        else:
            print(f"no Go here: {name} is left out", file=sys.stderr)


@contextmanager
def ends(delay_ms: float) -> Iterator[tuple[Stage, Host]]:
    """The stage with the mover and a peer on the internet, nothing between them yet."""
    with ExitStack() as stack, Lab() as lab:
        internet = lab.internet()
        stage = networks(stack, lab, internet, delay_ms)
        box = lab.host("box", internet)
        stage.impair("box", box)
        yield stage, box


@contextmanager
def wireguard_go(delay_ms: float) -> Iterator[Stage]:
    binary = built("wireguard-go", f"{WIREGUARD}@latest", WIREGUARD)
    with ends(delay_ms) as (stage, box):
        keys = [secrets.token_bytes(32) for _ in range(2)]
        for number, host in enumerate((stage.mover, box)):
            device = f"wgm{number}-{os.getpid() % 100000}"
            quiet = subprocess.DEVNULL
            host.popen([str(binary), "-f", device], stdout=quiet, stderr=quiet)
            public = x25519_public(keys[1 - number])
            there = "" if host is box else f"endpoint={box.ipv4}:{PORT}\n"
            configure(device, keys[number], public, there)
            host.ip(f"addr add {INNER[number]}/24 dev {device}", f"link set {device} mtu 1420 up")
        await_answer(stage, INNER[1])
        stage.add_peer("direct", box, INNER[1])
        yield stage


def configure(device: str, private: bytes, peer: bytes, endpoint: str) -> None:
    """By its control socket, which it makes a moment after its start."""
    text = (
        f"set=1\nprivate_key={private.hex()}\nlisten_port={PORT}\npublic_key={peer.hex()}\n"
        f"{endpoint}persistent_keepalive_interval={KEEPALIVE_S}\nallowed_ip=0.0.0.0/0\n\n"
    )
    path = f"/var/run/wireguard/{device}.sock"
    for _ in range(1000):
        with socket.socket(socket.AF_UNIX) as control:
            try:
                control.connect(path)
            except OSError:
                time.sleep(0.01)
                continue
            control.sendall(text.encode())
            answer = control.recv(1000).decode()
            if "errno=0" not in answer:
                raise RuntimeError(f"wireguard-go refused its configuration: {answer}")
            return
    raise RuntimeError("wireguard-go does not listen")


@contextmanager
def nebula(delay_ms: float) -> Iterator[Stage]:
    source = f"{NEBULA}/cmd/nebula"
    binary = built("nebula", f"{source}@{NEBULA_VERSION}", source)
    tool = built("nebula-cert", f"{source}-cert@{NEBULA_VERSION}", f"{source}-cert")
    with ends(delay_ms) as (stage, box):
        folder = stage.lab.directory / "nebula"
        folder.mkdir()
        subprocess.run([tool, "ca", "-name", "lab"], cwd=folder, check=True)
        for name, address in zip(("laptop", "box"), INNER, strict=True):
            words = ["sign", "-name", name, "-ip", f"{address}/24"]
            subprocess.run([tool, *words], cwd=folder, check=True)
        for host in (box, stage.mover):
            leads = host is box
            settings = NEBULA_SETTINGS.format(
                ca=folder / "ca.crt",
                certificate=folder / f"{host.name}.crt",
                key=folder / f"{host.name}.key",
                hosts="{}" if leads else json.dumps({INNER[1]: [f"{box.ipv4}:{PORT}"]}),
                leads=str(leads).lower(),
                lighthouses="[]" if leads else json.dumps([INNER[1]]),
                port=PORT if leads else 0,
            )
            (folder / f"{host.name}.yml").write_text(settings)
            quiet = subprocess.DEVNULL
            host.popen(
                [str(binary), "-config", str(folder / f"{host.name}.yml")],
                stdout=quiet,
                stderr=quiet,
            )
        await_answer(stage, INNER[1])
        stage.add_peer("direct", box, INNER[1])
        yield stage


def built(name: str, module: str, package: str) -> Path:
    """Build a Go program, once."""
    binary = BUILT / name
    if not binary.exists():
        folder = BUILT / f"{name}-source"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "go.mod").write_text("module bench\n\ngo 1.23\n")
        for words in (["get", module], ["build", "-o", str(binary), package]):
            subprocess.run(["go", *words], cwd=folder, check=True)
    return binary
