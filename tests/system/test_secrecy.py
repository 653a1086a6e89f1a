"""What somebody on the wire sees of two nodes: nothing of their data, names or addresses."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

import dns.name
import pytest

from ntmobile.lab import Capture
from ntmobile.lab.ntm import PASSWORD, NtmNode, World
from tests.system.programs import Programs

pytestmark = pytest.mark.lab

REPEATS = 32
"""Of the secrets in the file: enough for several packets, and few enough that four bytes of
ciphertext are not by chance an address."""
LOOKUP = "port 53"


class Secret(NamedTuple):
    """Something that must not be seen, in every form that a packet could carry it in."""

    what: str
    forms: tuple[bytes, ...]

    def is_in(self, packets: bytes) -> bool:
        # An address of four bytes as it is: in either case it would be found by chance.
        lowered = packets.lower()
        return any(
            form in packets if len(form) <= 4 else form.lower() in lowered for form in self.forms
        )


@dataclass
class Recorded:
    """Three recordings of the internet, with what they may not hold."""

    names: tuple[Secret, ...]
    data: tuple[Secret, ...]
    first: Path
    """Two logins, the first contact between two domains, a transfer."""
    second: Path
    """The first contact with another node of a domain that is known already, a transfer."""
    plain: Path
    """The same transfer without NTMobile."""


@pytest.fixture(scope="module")
def recorded(world: World, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    folder = tmp_path_factory.mktemp("recorded")
    org, net = world.federation("ntm.example.org", "ntm.example.net")
    home, office = (world.lab.nat(name, world.internet) for name in ("home", "office"))
    laptop = world.machine("zephyr", "quetzal", org, home)
    pc = world.machine("basilisk", "wyvern", net, office)
    tower = world.machine("minotaur", "wyvern", net, world.internet)
    world.bring_up(tower)
    served = Programs(world.directory / "served")
    for node in (pc, tower):
        served.serve_web(node.host)
    marker = secrets.token_bytes(16)

    with Capture(world.internet, "") as capture:
        world.bring_up(laptop, pc)
        write_secrets(served.folder, marker, (laptop, pc, tower))
        transfer(laptop, pc.fqdn)
        first = keep(capture, folder / "first")
    with Capture(world.internet, "") as capture:
        transfer(laptop, tower.fqdn)
        second = keep(capture, folder / "second")
    with Capture(world.internet, "") as capture:
        transfer(laptop, str(tower.host.ipv4))
        plain = keep(capture, folder / "plain")
    nodes = (laptop, pc, tower)
    return Recorded(names_of(nodes), data_of(nodes, marker), first, second, plain)


def test_logins_set_up_and_transfer_show_nothing_but_the_look_up_of_a_zone(
    recorded: Recorded, world: World
) -> None:
    everything = packets(world, recorded.first, "")
    no_look_ups = packets(world, recorded.first, f"not {LOOKUP}")

    assert seen(recorded.data, everything) == []
    assert seen(recorded.names, no_look_ups) == []


def test_a_name_of_a_known_zone_shows_in_no_look_up_either(
    recorded: Recorded, world: World
) -> None:
    everything = packets(world, recorded.second, "")

    assert seen((*recorded.data, *recorded.names), everything) == []


def test_the_same_search_finds_everything_in_a_plain_transfer(
    recorded: Recorded, world: World
) -> None:
    wanted = (*recorded.data, *recorded.names)

    assert seen(wanted, packets(world, recorded.plain, "")) == [each.what for each in wanted]


def transfer(node: NtmNode, peer: str) -> None:
    command = ["curl", "-sS", "--fail", "--max-time", "60", f"http://{peer}/secrets"]
    assert len(node.host.run([*command, "-o", "/dev/null", "-w", "%{size_download}"]).stdout) > 4


def write_secrets(folder: Path, marker: bytes, nodes: tuple[NtmNode, ...]) -> None:
    """Make the file that is transferred: every secret in every form."""
    all_of_them = (*names_of(nodes), *data_of(nodes, marker))
    line = b"\n".join(form for secret in all_of_them for form in secret.forms)
    (folder / "secrets").write_bytes(line * REPEATS)


def names_of(nodes: tuple[NtmNode, ...]) -> tuple[Secret, ...]:
    """The FQDNs, as text and as in DNS messages, and their labels alone."""
    found = []
    for node in nodes:
        wire = dns.name.from_text(node.fqdn).to_wire()
        assert wire is not None
        found.append(Secret(node.fqdn, (node.fqdn.encode(), wire)))
    labels = {label for node in nodes for label in (node.name, node.user)}
    return (*found, *(Secret(label, (label.encode(),)) for label in sorted(labels)))


def data_of(nodes: tuple[NtmNode, ...], marker: bytes) -> tuple[Secret, ...]:
    """The payload, the password, the virtual addresses as text and packed."""
    addresses: Mapping[str, bytes] = {
        status[family]: ip_address(status[family]).packed
        for status in (node.status() for node in nodes)
        for family in ("virtual_ipv4", "virtual_ipv6")
    }
    return (
        Secret("payload", (marker, marker.hex().encode())),
        Secret("password", (PASSWORD.encode(),)),
        *(Secret(text, (text.encode(), packed)) for text, packed in addresses.items()),
    )


def keep(capture: Capture, file: Path) -> Path:
    """Stop, and keep the packets under another name."""
    file.write_bytes(capture.stop().read_bytes())
    return file


def packets(world: World, file: Path, expression: str) -> bytes:
    """Return the packets of a recording that match; there are some."""
    chosen = file.with_name(f"{file.name}-chosen")
    command = ["tcpdump", "-n", "-Z", "root", "-r", str(file), "-w", str(chosen), expression]
    world.internet.run(command)
    content = chosen.read_bytes()
    assert len(content) > 10_000
    return content


def seen(wanted: tuple[Secret, ...], content: bytes) -> list[str]:
    return [secret.what for secret in wanted if secret.is_in(content)]
