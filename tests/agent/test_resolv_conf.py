import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ntmobile.agent.dns_hook_table import HookUnavailable
from ntmobile.agent.resolv_conf import Nameservers, ResolvConf, free_loopback, nameservers
from ntmobile.wire.endpoint import Endpoint

if TYPE_CHECKING:
    from conftest import Namespace, Resolver

STUB, OTHER = "127.78.0.1", "127.78.0.2"
ORIGINAL = "# by hand\nsearch example.com\nnameserver 192.0.2.53\nnameserver 2001:db8::53\n"
SERVERS = (Endpoint("192.0.2.53", 53), Endpoint("2001:db8::53", 53))

AGENT = """
import asyncio, sys
from ipaddress import ip_address
from pathlib import Path
from ntmobile.agent.dns_stub import DnsStub
from ntmobile.agent.dns_stub_messages import Answer
from ntmobile.agent.resolv_conf import Nameservers, ResolvConf, free_loopback

async def resolve(fqdn):
    return Answer(ip_address("100.64.0.9"), ip_address("fd12::9"))

async def main():
    here = free_loopback()
    path = Path(sys.argv[1])
    stub = DnsStub(resolve, lambda _: None, Nameservers(path), own_zones=["ntm.example.org"],
                   addresses=[here], port=53)
    async with stub:
        with ResolvConf(here, path=path):
            print("ready", flush=True)
            await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "resolv.conf"
    path.write_text(ORIGINAL)
    return path


def test_the_stub_comes_first_and_the_original_behind_it(conf: Path) -> None:
    with ResolvConf(STUB, path=conf):
        assert asked_in_order(conf) == [STUB, "192.0.2.53", "2001:db8::53"]
        assert conf.read_text().endswith(ORIGINAL)
        assert nameservers(conf.read_text()) == SERVERS
        assert conf.stat().st_mode & 0o777 == 0o644


def test_the_original_file_itself_comes_back(conf: Path) -> None:
    conf.chmod(0o640)
    before = conf.stat()

    with ResolvConf(STUB, path=conf):
        pass

    after = conf.stat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert everything_beside(conf) == ["resolv.conf"]


def test_a_symbolic_link_comes_back_as_the_link_it_was(conf: Path) -> None:
    link = linked(conf)

    with ResolvConf(STUB, path=link):
        assert asked_in_order(link) == [STUB, "192.0.2.53", "2001:db8::53"]
        assert conf.read_text() == ORIGINAL

    assert link.readlink() == Path("../resolv.conf")


def test_what_a_symbolic_link_points_to_is_followed(conf: Path) -> None:
    link = linked(conf)
    with ResolvConf(STUB, path=link) as hook:
        conf.write_text("nameserver 198.51.100.53\n")
        hook.refresh()

        assert asked_in_order(link) == [STUB, "198.51.100.53"]


def test_a_file_that_a_dhcp_client_wrote_gets_the_stub_again(conf: Path) -> None:
    with ResolvConf(STUB, path=conf) as hook:
        replaced(conf, "nameserver 198.51.100.53\n")
        hook.refresh()

        assert asked_in_order(conf) == [STUB, "198.51.100.53"]

    assert conf.read_text() == "nameserver 198.51.100.53\n"


def test_a_file_that_somebody_else_wrote_stays_theirs(conf: Path) -> None:
    with ResolvConf(STUB, path=conf):
        replaced(conf, "nameserver 198.51.100.53\n")

    assert conf.read_text() == "nameserver 198.51.100.53\n"
    assert everything_beside(conf) == ["resolv.conf"]


def test_an_edit_behind_the_stub_is_kept(conf: Path) -> None:
    with ResolvConf(STUB, path=conf), conf.open("a") as file:
        file.write("options edns0\n")

    assert conf.read_text() == ORIGINAL + "options edns0\n"


def test_bytes_that_are_no_text_survive(conf: Path) -> None:
    conf.write_bytes(b"# caf\xe9\r\nnameserver 192.0.2.53")
    with ResolvConf(STUB, path=conf) as hook:
        replaced(conf, None)
        hook.refresh()

    assert conf.read_bytes() == b"# caf\xe9\r\nnameserver 192.0.2.53"


def test_without_a_file_there_is_none_afterwards(tmp_path: Path) -> None:
    with ResolvConf(STUB, path=tmp_path / "resolv.conf"):
        assert asked_in_order(tmp_path / "resolv.conf") == [STUB]

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("new_stub", [STUB, OTHER])
def test_what_a_crash_left_is_mended_at_the_next_start(conf: Path, new_stub: str) -> None:
    before = conf.stat().st_ino
    ResolvConf(STUB, path=conf).__enter__()

    with ResolvConf(new_stub, path=conf, is_alive=lambda _: False):
        assert asked_in_order(conf) == [new_stub, "192.0.2.53", "2001:db8::53"]

    assert conf.stat().st_ino == before
    assert everything_beside(conf) == ["resolv.conf"]


@pytest.mark.parametrize("first_ends_first", [True, False])
def test_two_agents_share_the_file(conf: Path, first_ends_first: bool) -> None:
    hooks = [ResolvConf(stub, path=conf, is_alive=lambda _: True) for stub in (STUB, OTHER)]
    for hook in hooks:
        hook.__enter__()
    assert asked_in_order(conf)[:3] == [OTHER, STUB, "192.0.2.53"]

    for hook in hooks if first_ends_first else hooks[::-1]:
        assert nameservers(conf.read_text()) == SERVERS
        hook.__exit__(None, None, None)

    assert conf.read_text() == ORIGINAL
    assert everything_beside(conf) == ["resolv.conf"]


def test_the_servers_are_those_of_now(conf: Path) -> None:
    servers = Nameservers(conf)
    assert servers() == SERVERS

    replaced(conf, "nameserver 198.51.100.53\n")
    assert servers() == (Endpoint("198.51.100.53", 53),)

    conf.unlink()
    assert servers() == (Endpoint("198.51.100.53", 53),)


@pytest.mark.parametrize("text", ["", "nameserver\n", "#nameserver 192.0.2.53\n"])
def test_a_file_without_servers_means_this_machine(text: str) -> None:
    assert nameservers(text) == (Endpoint("127.0.0.1", 53),)


def test_a_server_with_a_link_local_address_keeps_its_interface() -> None:
    (server,) = nameservers("nameserver fe80::1%eth0\n")

    assert str(server.host) == "fe80::1%eth0"


@pytest.mark.lab
def test_a_full_disk_leaves_the_original_as_it_is(full_disk: Path) -> None:
    conf = full_disk / "resolv.conf"

    with pytest.raises(HookUnavailable, match="No space left"):
        ResolvConf(STUB, path=conf).__enter__()

    assert conf.read_text() == ORIGINAL
    assert set(everything_beside(conf)) == {"resolv.conf", "filler"}


@pytest.mark.lab
def test_restoring_needs_no_space(full_disk: Path) -> None:
    conf = full_disk / "resolv.conf"
    (full_disk / "filler").unlink()
    hook = ResolvConf(STUB, path=conf)
    hook.__enter__()
    fill(full_disk)

    hook.__exit__(None, None, None)

    assert conf.read_text() == ORIGINAL
    assert set(everything_beside(conf)) == {"resolv.conf", "filler"}


@pytest.mark.lab
def test_a_file_that_is_a_mount_of_its_own_is_changed_in_place(mounted: Path) -> None:
    with ResolvConf(STUB, path=mounted):
        assert asked_in_order(mounted) == [STUB, "192.0.2.53", "2001:db8::53"]

    assert mounted.read_text() == ORIGINAL
    assert everything_beside(mounted) == ["resolv.conf"]


@pytest.mark.lab
async def test_a_killed_agent_leaves_names_resolvable(
    namespace: "Namespace", resolver: "Resolver"
) -> None:
    resolver.records["www.example.com."] = "A 192.0.2.80"
    namespace.ip("addr add 192.0.2.53/32 dev lo")
    with namespace.entered():
        await resolver.open("192.0.2.53", 53)
    with namespace.resolv_conf("nameserver 192.0.2.53\n") as conf:
        process = namespace.popen(sys.executable, "-c", AGENT, str(conf), stdout=subprocess.PIPE)
        assert process.stdout is not None
        with process.stdout:
            assert process.stdout.readline() == "ready\n"
        assert await getent(namespace, "laptop.alice.ntm.example.org") == "100.64.0.9"
        assert await getent(namespace, "www.example.com") == "192.0.2.80"

        process.send_signal(signal.SIGKILL)
        process.wait(10)

        assert await getent(namespace, "www.example.com") == "192.0.2.80"


@pytest.mark.lab
def test_a_taken_loopback_address_is_passed_over(inside: "Namespace") -> None:
    assert free_loopback() == STUB
    with pytest.raises(HookUnavailable, match="taken"):
        free_loopback(())


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    with mount(tmp_path, "-t", "tmpfs", "-o", "size=64k", "tmpfs"):
        (tmp_path / "resolv.conf").write_text(ORIGINAL)
        fill(tmp_path)
        yield tmp_path


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "resolv.conf").write_text(ORIGINAL)
    (tmp_path / "etc").mkdir()
    path = tmp_path / "etc" / "resolv.conf"
    path.touch()
    with mount(path, "--bind", str(tmp_path / "source" / "resolv.conf")):
        yield path


class mount:
    def __init__(self, where: Path, *arguments: str) -> None:
        self._where = where
        self._line = ["mount", *arguments, str(where)]

    def __enter__(self) -> None:
        if os.geteuid() != 0:
            pytest.skip("needs root to mount")
        subprocess.run(self._line, check=True)

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", str(self._where)], check=True)


def fill(directory: Path) -> None:
    with (directory / "filler").open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass


def linked(conf: Path) -> Path:
    directory = conf.parent / "etc"
    directory.mkdir()
    link = directory / "resolv.conf"
    link.symlink_to("../resolv.conf")
    return link


def replaced(conf: Path, text: str | None) -> None:
    """As a DHCP client does: a new file under the old name."""
    fresh = conf.with_name("fresh")
    kept = conf.with_name("resolv.conf.before-ntm")
    fresh.write_bytes(kept.read_bytes() if text is None else text.encode())
    fresh.replace(conf)


def asked_in_order(conf: Path) -> list[str]:
    return [line.split()[1] for line in conf.read_text().splitlines() if line[:10] == "nameserver"]


def everything_beside(conf: Path) -> list[str]:
    return sorted(path.name for path in conf.parent.iterdir())


async def getent(namespace: "Namespace", name: str) -> str:
    return (await namespace.output("getent", "ahostsv4", name)).split(" ")[0]
