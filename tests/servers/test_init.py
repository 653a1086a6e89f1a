# ruff: noqa: ASYNC240 -- nothing else runs in these loops
import os
import re
import subprocess
import sys
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from random import SystemRandom

import pytest
from cryptography.x509 import IPAddress, SubjectAlternativeName

from ntmobile.config import ConfigError
from ntmobile.errors import Remedy
from ntmobile.keys.certificates import fingerprint, names_of, read_certificate
from ntmobile.servers.config import RelayPorts, Role, ServerConfig, ServerSettings
from ntmobile.servers.files import ServerDirectory, write
from ntmobile.servers.init import initialise, parent_records
from ntmobile.servers.view import view
from ntmobile.store import Store

NOW_S = 1_800_000_000
YEAR_S = 365 * 86400
ADDRESSES = (ip_address("203.0.113.10"), ip_address("2001:db8::10"))
SETTINGS = ServerConfig(server=ServerSettings(domain="ntm.example.org", addresses=ADDRESSES))


async def test_a_new_directory_is_all_that_a_server_needs(tmp_path: Path) -> None:
    made = await make(tmp_path / "servers")

    assert made.config() == SETTINGS
    assert made.policy().rules() == ()
    assert len(made.domain_key()) == 32
    store = await Store.open(made.store_url(made.config()))
    assert await store.users.list() == ()
    await store.close()


async def test_nobody_but_the_owner_reads_a_secret(tmp_path: Path) -> None:
    made = await make(tmp_path / "servers")

    secret = ("ca.key", "server.pem", "domain.key", "zone.key", "ntm.db")
    modes = {name: (made.path / name).stat().st_mode & 0o777 for name in secret}
    assert modes == dict.fromkeys(secret, 0o600)
    assert b"PRIVATE" not in made.ca_file.read_bytes()


async def test_two_directories_share_no_key(tmp_path: Path) -> None:
    one, two = [await make(tmp_path / name) for name in ("one", "two")]

    assert one.domain_key() != two.domain_key()
    assert one.ca().key != two.ca().key


async def test_a_directory_in_use_is_left_alone(tmp_path: Path) -> None:
    made = await make(tmp_path / "servers")
    before = contents(made.path)

    with pytest.raises(Remedy, match="holds a server already"):
        await make(made.path)

    assert contents(made.path) == before


async def test_a_directory_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")

    with pytest.raises(Remedy, match="is not empty"):
        await make(tmp_path)

    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


async def test_an_empty_directory_is_filled(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    assert (await make(tmp_path / "empty")).config() == SETTINGS


async def test_a_crash_in_the_middle_leaves_nothing_and_the_next_try_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "servers"
    for files in range(1, 8):
        stop_after(files, monkeypatch)
        with pytest.raises(KeyboardInterrupt):
            await make(target)
        assert not target.exists()
    monkeypatch.undo()

    await make(target)

    assert [file.name for file in tmp_path.iterdir()] == ["servers"]


async def test_what_a_killed_try_left_beside_is_removed(tmp_path: Path) -> None:
    litter = tmp_path / ".servers.ntm-init"
    litter.mkdir()
    (litter / "ca.key").write_text("half")

    await make(tmp_path / "servers")

    assert [file.name for file in tmp_path.iterdir()] == ["servers"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system of its own")
def test_a_mount_point_can_become_the_directory(tmp_path: Path) -> None:
    ntm = Path(sys.executable).with_name("ntm")
    init = f"{ntm} server init {tmp_path} --offline --domain ntm.example.org --address 203.0.113.10"
    script = f"mount -t tmpfs ntm-test {tmp_path} && {init} >&2 && ls -A {tmp_path}"

    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        timeout=180,
    )

    assert done.stdout.split() == [
        "ca.key", "ca.pem", "domain.key", "ntm.db", "policy.toml", "server.pem", "server.toml",
        "vapid.key", "zone.key",
    ]  # fmt: skip


async def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(Remedy, match="nothing was made"):
        await make(tmp_path / "file" / "servers")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts small file systems of its own")
@pytest.mark.parametrize("size", ["16k", "28k", "52k", "100k"])
def test_on_a_full_disk_it_asks_for_room_and_not_for_another_place(
    size: str, tmp_path: Path
) -> None:
    """The sizes are too small for the keys, for the database at first, and for its tables."""
    mount = f'mount -t tmpfs -o size={size} ntm-test {tmp_path} && exec "$@"'
    words = ["server", "init", str(tmp_path / "servers"), "--domain", "ntm.example.org"]
    words += ["--address", "127.0.0.9", "--offline"]
    program = [sys.executable, "-c", "from ntmobile.cli.main import main; main()"]

    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mount, "sh", *program, *words],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )

    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "nothing was made; make room" in done.stderr


def test_the_parent_zone_gets_the_delegation_and_its_glue() -> None:
    assert parent_records(SETTINGS, None) == (
        "ntm.example.org. 3600 IN NS dc.ntm.example.org.",
        "dc.ntm.example.org. 3600 IN A 203.0.113.10",
        "dc.ntm.example.org. 3600 IN AAAA 2001:db8::10",
    )


async def test_the_parent_zone_gets_the_digest_of_the_zones_key(tmp_path: Path) -> None:
    made = await make(tmp_path / "servers")
    signer = made.zone_signer("ntm.example.org")

    assert signer is not None
    assert view(made).records == (
        *parent_records(SETTINGS, None),
        f"ntm.example.org. 3600 IN {signer.ds}",
    )
    assert re.fullmatch(r"DS \d+ 13 2 [0-9a-f]{64}", signer.ds)


async def test_a_directory_without_a_zone_key_shows_that_its_zone_is_not_signed(
    tmp_path: Path,
) -> None:
    made = await make(tmp_path / "servers")
    (made.path / "zone.key").unlink()

    shown = view(made)

    assert not shown.signed
    assert shown.records == parent_records(SETTINGS, None)


async def test_a_zone_key_that_cannot_sign_is_refused(tmp_path: Path) -> None:
    made = await make(tmp_path / "servers")
    (made.path / "zone.key").write_bytes((made.path / "domain.key").read_bytes())

    with pytest.raises(Remedy, match=r"zone\.key is no ECDSA P-256 key"):
        made.zone_signer("ntm.example.org")


async def test_dnssec_starts_at_the_root_unless_a_file_says_otherwise(tmp_path: Path) -> None:
    made = await make(tmp_path / "servers")
    (made.path / "anchor").write_text(f"example.org. IN DS 1 13 2 {'ab' * 32}\n")
    own = replace(SETTINGS, server=replace(SETTINGS.server, trust_anchor="anchor"))

    assert [name.to_text() for name in made.trust_anchors(SETTINGS)] == ["."]
    assert [name.to_text() for name in made.trust_anchors(own)] == ["example.org."]


@pytest.mark.parametrize("text", [None, "", "example.org. IN A 192.0.2.1", "example.org. IN DS 1"])
async def test_a_file_without_trust_anchors_is_refused(text: str | None, tmp_path: Path) -> None:
    made = await make(tmp_path / "servers")
    if text is not None:
        (made.path / "anchor").write_text(text)
    own = replace(SETTINGS, server=replace(SETTINGS.server, trust_anchor="anchor"))

    with pytest.raises(Remedy, match="anchor: "):
        made.trust_anchors(own)


async def test_the_view_tells_what_others_must_know(tmp_path: Path) -> None:
    made = await make(tmp_path / "servers")

    shown = view(made)

    assert shown.domain == "ntm.example.org"
    assert shown.tls_fingerprint == fingerprint((made.path / "server.pem").read_bytes())
    assert shown.domain_key.startswith("SHA256:")
    assert shown.ports == {
        "as": {"tcp": 443},
        "dc": {"tcp": 443, "udp": 4330},
        "dns": {"udp": 53, "tcp": 53},
        "rs": {"tcp": 443, "udp": 4331},
    }


async def test_the_certificate_is_renewed_when_it_is_due_and_the_ca_stays(tmp_path: Path) -> None:
    made = await make(tmp_path / "servers")
    before, ca = made.tls_certificate(SETTINGS), made.ca()

    assert not made.renew(SETTINGS, SETTINGS.names, serial=7, now_s=NOW_S + YEAR_S)
    assert made.tls_certificate(SETTINGS) == before

    assert made.renew(SETTINGS, SETTINGS.names, serial=7, now_s=NOW_S + 4 * YEAR_S)
    renewed = read_certificate(made.tls_certificate(SETTINGS))
    assert renewed.serial_number == 7
    renewed.verify_directly_issued_by(read_certificate(ca.certificate))
    assert (made.path / "server.pem").stat().st_mode & 0o777 == 0o600


async def test_a_certificate_that_lacks_a_name_is_made_anew(tmp_path: Path) -> None:
    made = await make(tmp_path / "servers")
    names = (*SETTINGS.names, "rs2.ntm.example.org")

    assert made.renew(SETTINGS, names, serial=7, now_s=NOW_S)

    assert names_of(read_certificate(made.tls_certificate(SETTINGS))) == names


async def test_the_certificate_speaks_for_every_machine_of_the_domain(tmp_path: Path) -> None:
    elsewhere = ip_address("203.0.113.20")
    made = await make(
        tmp_path / "servers", replace(SETTINGS, rs=RelayPorts(addresses=(elsewhere,)))
    )

    certificate = read_certificate(made.tls_certificate(SETTINGS))
    names = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value

    assert elsewhere in names.get_values_for_type(IPAddress)
    assert parent_records(made.config(), None) == parent_records(SETTINGS, None)


async def test_an_operators_own_certificate_is_left_alone(tmp_path: Path) -> None:
    made = await make(tmp_path / "servers")
    file = made.settings_file
    given = file.read_text().replace('certificate = ""', 'certificate = "web.pem"')
    file.write_text(given.replace('key = ""', 'key = "web.key"'))
    settings = made.config()

    assert made.tls_files(settings) == (made.path / "web.pem", made.path / "web.key")
    assert not made.renew(settings, settings.names, serial=7, now_s=NOW_S + 40 * YEAR_S)


async def test_a_wrong_setting_is_named_with_its_file(tmp_path: Path) -> None:
    made = await make(tmp_path / "servers")
    made.settings_file.write_text(made.settings_file.read_text() + "[colour]\n")

    with pytest.raises(ConfigError, match=rf"^{made.settings_file}, line \d+: colour"):
        made.config()


def test_a_directory_without_a_server_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(Remedy, match="ntm server init"):
        ServerDirectory(tmp_path).config()


async def test_bytes_that_are_no_text_are_named_by_line(tmp_path: Path) -> None:
    (tmp_path / "server.toml").write_bytes(b'[server]\ndomain = "\xff"\n')

    with pytest.raises(ConfigError, match="line 2: not text"):
        ServerDirectory(tmp_path).config()


@pytest.mark.parametrize(
    ("url", "opened"),
    [
        ("", "sqlite+aiosqlite:///{}/ntm.db"),
        ("sqlite:///other.db", "sqlite+aiosqlite:///{}/other.db"),
        ("sqlite+aiosqlite:////srv/ntm.db", "sqlite+aiosqlite:////srv/ntm.db"),
        ("postgresql+asyncpg://ntm:secret@db/ntm", "postgresql+asyncpg://ntm:secret@db/ntm"),
    ],
)
async def test_the_database_is_where_the_settings_say(
    url: str, opened: str, tmp_path: Path
) -> None:
    made = await make(tmp_path / "servers")
    file = made.settings_file
    file.write_text(file.read_text().replace('url = ""', f'url = "{url}"'))

    assert made.store_url(made.config()) == opened.format(made.path)


def test_a_domains_names_are_those_of_its_roles() -> None:
    assert SETTINGS.name_of(Role.RS) == "rs.ntm.example.org"


async def make(path: Path, settings: ServerConfig = SETTINGS) -> ServerDirectory:
    return await initialise(path, settings, entropy=SystemRandom(), now_s=NOW_S)


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def stop_after(files: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process ends while it writes that many-th file."""
    written = 0

    def writing(file: Path, content: bytes, *, private: bool = False) -> None:
        nonlocal written
        written += 1
        if written == files:
            raise KeyboardInterrupt
        write(file, content, private=private)

    monkeypatch.setattr("ntmobile.servers.init.write", writing)
    monkeypatch.setattr("ntmobile.servers.files.write", writing)
