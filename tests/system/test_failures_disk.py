"""A server whose disk is full: who is registered goes on, who comes is told why, and it passes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from ntmobile.lab import Nat
from ntmobile.lab.ntm import NTM, PASSWORD, NtmNode, Organisation, World
from tests.system.failing import (
    Download,
    forget_tunnels,
    full_disk,
    make_writes_need_room,
    put_on_small_disk,
    refusal,
    restart,
    seconds_until,
    serve_stream,
)

pytestmark = pytest.mark.lab
DISK_KB = 4096
ALL = "as,dc,ns,rs"
NO_ROOM = "the store cannot be written"
ROOM_AGAIN = "the store can be written again"


@dataclass
class Place:
    """A domain on a small disk, and two nodes of it behind NATs."""

    org: Organisation
    cafe: Nat
    laptop: NtmNode
    pc: NtmNode


@pytest.fixture(scope="module")
def place(world: World) -> Place:
    org = world.organisation("ntm.example.org")
    org.kill(ALL)
    put_on_small_disk(org.host, org.directory, DISK_KB)
    restart(org, ALL)
    lab, internet = world.lab, world.internet
    laptop = world.machine("laptop", "alice", org, lab.nat("home", internet))
    pc = world.machine("pc", "bob", org, lab.nat("office", internet))
    world.bring_up(laptop, pc)
    serve_stream(pc.host)
    return Place(org, lab.nat("cafe", internet), laptop, pc)


@contextmanager
def no_room(organisation: Organisation) -> Iterator[None]:
    """The next write to the organisation's database fails, and every later one."""
    host, directory = organisation.host, organisation.directory
    make_writes_need_room(host, directory / "ntm.db")
    with full_disk(host, directory):
        yield
    seconds_until(
        lambda: newest(organisation).count(NO_ROOM) == newest(organisation).count(ROOM_AGAIN),
        "the server to have written what it could not",
    )


def login(node: NtmNode) -> tuple[str, ...]:
    """The words of a first login."""
    organisation = node.organisation
    ca = str(organisation.directory / "ca.pem")
    who = f"{node.user}@{organisation.domain}"
    return ("up", who, "--name", node.name, "--password-stdin", "--ca", ca)


def test_a_new_node_hears_why_it_cannot_log_in_and_can_as_soon_as_there_is_room(
    place: Place, world: World
) -> None:
    fresh = world.machine("fresh", "alice", place.org, world.internet)
    with no_room(place.org):
        code, said = refusal(fresh, *login(fresh), input=PASSWORD)

    assert code == 1
    assert "cannot write (disk full or database gone)" in said
    assert "next: tell the operator" in said
    fresh.up()
    assert fresh.status()["state"] == "up"


def test_the_operator_hears_why_nothing_can_be_changed_and_can_once_there_is_room(
    place: Place,
) -> None:
    words = ["admin", "--server", str(place.org.directory), "user", "add", "eve"]
    with no_room(place.org):
        done = place.org.host.run(
            [NTM, *words, "--password-stdin"], input="another password\n", check=False
        )

    assert done.returncode == 1
    assert "full" in done.stderr
    place.org.add_user("eve")
    assert "eve" in place.org.admin("user", "list")


def test_a_download_and_a_move_go_on_while_the_disk_is_full(place: Place) -> None:
    with Download(place.laptop, place.pc, seconds=12) as download:
        with no_room(place.org):
            download.await_flow()
            place.laptop.host.move(place.cafe)
            seconds_until(lambda: NO_ROOM in newest(place.org), "the server to meet the full disk")
            seconds_until(lambda: place.laptop.status()["state"] == "up", "the laptop to be up")
        download.finish()


def test_nodes_that_are_enrolled_come_up_and_connect_while_the_disk_is_full(place: Place) -> None:
    with no_room(place.org):
        forget_tunnels(place.laptop, place.pc)
        done = place.laptop.ntm("ping", place.pc.fqdn, "-c", "1")

    assert "pong from" in done.stdout


def test_what_happened_while_the_disk_was_full_is_written_once_there_is_room(place: Place) -> None:
    before = len(newest(place.org))
    with no_room(place.org):
        place.laptop.host.move(place.cafe)
        seconds_until(lambda: NO_ROOM in newest(place.org, before), "the full disk to be met")
    seconds_until(lambda: ROOM_AGAIN in newest(place.org, before), "the store to be written")

    place.org.kill(ALL)
    restart(place.org, ALL)

    # The laptop is known to the server that just started, though it did not log in again.
    forget_tunnels(place.pc)
    assert "pong from" in place.pc.ntm("ping", place.laptop.fqdn, "-c", "1").stdout
    assert place.laptop.status()["state"] == "up"


def newest(organisation: Organisation, since: int = 0) -> str:
    """What the servers logged."""
    return organisation.log(ALL).read_text()[since:]
