from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from random import SystemRandom

import pytest
from structlog.testing import capture_logs

from ntmobile.errors import Remedy
from ntmobile.keys.certificates import names_of, read_certificate
from ntmobile.runtime.clock import Clock
from ntmobile.servers.config import (
    DnsSettings,
    FurtherNotifier,
    FurtherRelay,
    Role,
    ServerConfig,
    ServerSettings,
    StoreSettings,
)
from ntmobile.servers.files import ServerDirectory
from ntmobile.servers.init import initialise
from ntmobile.servers.lone_directory import make_lone_directory
from ntmobile.servers.own import OwnDomain
from ntmobile.servers.serve import Servers

LOOPBACK = ip_address("127.0.0.1")
YEAR_S = 365 * 86400


class Later(Clock):
    """Some years ahead."""

    def wall(self) -> float:
        return super().wall() + 4 * YEAR_S


@pytest.fixture
async def main(tmp_path: Path, new_ports: Callable[[int], list[int]]) -> ServerDirectory:
    https, udp, further_https, further_udp, dns, held, further_held = new_ports(7)
    made = ServerConfig(
        server=ServerSettings(
            domain="ntm.example.org",
            addresses=(LOOPBACK,),
            roles=(Role.AS, Role.DC, Role.RS, Role.NS),
        ),
        relay=(
            FurtherRelay(name="rs2", addresses=(LOOPBACK,), https=further_https, udp=further_udp),
        ),
        notifier=(
            FurtherNotifier(
                name="ns2", addresses=(LOOPBACK,), https=further_https, port=further_held
            ),
        ),
        dns=DnsSettings(port=dns),
    )
    settings = replace(
        made,
        as_=replace(made.as_, https=https),
        dc=replace(made.dc, https=https),
        ns=replace(made.ns, https=https, port=held),
        rs=replace(made.rs, https=https, udp=udp),
    )
    return await initialise(
        tmp_path / "main", settings, entropy=SystemRandom(), now_s=int(Clock().wall())
    )


def relay_of(main: ServerDirectory, label: str = "rs2") -> ServerDirectory:
    return alone(main, Role.RS, label)


def notifier_of(main: ServerDirectory, label: str = "ns2") -> ServerDirectory:
    return alone(main, Role.NS, label)


def alone(main: ServerDirectory, role: Role, label: str) -> ServerDirectory:
    path = main.path.with_name(label)
    now_s = int(Clock().wall())
    make_lone_directory(main, role, label, path, entropy=SystemRandom(), now_s=now_s)
    return ServerDirectory(path)


def servers_of(
    directory: ServerDirectory, roles: tuple[Role, ...] | None = None, clock: Clock | None = None
) -> Servers:
    return Servers(directory, roles, entropy=SystemRandom(), clock=clock or Clock())


@pytest.mark.parametrize("make", [relay_of, notifier_of])
async def test_it_holds_no_secret_but_its_own(
    main: ServerDirectory, make: Callable[[ServerDirectory], ServerDirectory]
) -> None:
    main.settings_file.write_text(
        main.settings_file.read_text().replace('url = ""', 'url = "postgresql://ntm:secret@db/ntm"')
    )

    made = make(main)

    files = {file.name: file.read_bytes() for file in made.path.iterdir()}
    assert set(files) == {"server.toml", "ca.pem", "server.pem", "domain.pub", "statement"}
    assert (made.path / "server.pem").stat().st_mode & 0o777 == 0o600
    assert made.path.stat().st_mode & 0o777 == 0o700
    assert [name for name, content in files.items() if b"PRIVATE" in content] == ["server.pem"]
    assert all(b"secret" not in content for content in files.values())
    assert made.config().store == StoreSettings()


@pytest.mark.parametrize(("make", "label"), [(relay_of, "rs2"), (notifier_of, "ns2")])
async def test_its_certificate_speaks_for_this_server_only(
    main: ServerDirectory, make: Callable[[ServerDirectory], ServerDirectory], label: str
) -> None:
    made = make(main)

    certificate = read_certificate(made.tls_certificate(made.config()))

    assert names_of(certificate) == (f"{label}.ntm.example.org",)
    certificate.verify_directly_issued_by(read_certificate(main.ca().certificate))


@pytest.mark.parametrize(
    ("role", "label"), [(Role.RS, "rs"), (Role.RS, "rs2"), (Role.NS, "ns"), (Role.NS, "ns2")]
)
async def test_it_serves_what_it_was_made_for(
    main: ServerDirectory, role: Role, label: str
) -> None:
    servers = servers_of(alone(main, role, label))

    await servers.start()
    try:
        await servers.check()
        assert [site.label for site in servers.sites.values()] == [label]
        await servers.reload()
        await servers.check()
    finally:
        await servers.close()


async def test_the_other_servers_do_not_run_from_it(main: ServerDirectory) -> None:
    made, told = relay_of(main), notifier_of(main)

    with pytest.raises(Remedy, match="of an RS alone"):
        servers_of(made, (Role.DC, Role.RS))
    with pytest.raises(Remedy, match="of an NS alone"):
        servers_of(told, (Role.RS,))


async def test_an_rs_is_no_ns(main: ServerDirectory) -> None:
    with pytest.raises(Remedy, match=r"rs2 is no NS of ntm.example.org \(ns, ns2\)") as raised:
        notifier_of(main, "rs2")

    assert "[[notifier]]" in raised.value.remedy


async def test_settings_that_do_not_name_its_server_are_refused_with_the_remedy(
    main: ServerDirectory,
) -> None:
    made = notifier_of(main)
    text = made.settings_file.read_text()
    made.settings_file.write_text(text.replace('"ns2"', '"ns7"'))

    with pytest.raises(Remedy, match="does not name ns2") as raised:
        servers_of(made)

    assert "ntm server" in raised.value.remedy


async def test_a_certificate_that_the_domain_did_not_state_is_refused(
    main: ServerDirectory,
) -> None:
    one, other = relay_of(main, "rs"), relay_of(main, "rs2")
    (one.path / "server.pem").write_bytes((other.path / "server.pem").read_bytes())

    with pytest.raises(Remedy, match="does not list this certificate") as raised:
        OwnDomain.read(one, one.config())

    assert "ntm server relay" in raised.value.remedy


@pytest.mark.parametrize(("make", "which"), [(relay_of, "RS"), (notifier_of, "NS")])
async def test_a_certificate_that_runs_out_is_said(
    main: ServerDirectory, make: Callable[[ServerDirectory], ServerDirectory], which: str
) -> None:
    made = make(main)

    with capture_logs() as logs:
        servers_of(made)
        assert not logs
        servers_of(made, clock=Later())

    assert [each["event"] for each in logs] == [f"the certificate of this {which} is due"]


async def test_a_used_directory_is_left_alone(main: ServerDirectory) -> None:
    with pytest.raises(Remedy, match="holds a server already"):
        make_lone_directory(main, Role.RS, "rs", main.path, entropy=SystemRandom(), now_s=0)
