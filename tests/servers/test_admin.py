from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from random import SystemRandom
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.store.test_registrations import NODE

from ntmobile.config import ConfigError, render
from ntmobile.errors import Remedy
from ntmobile.keys.passwords import authority_digest, verify_password
from ntmobile.proto.coordinator.policy import Federation
from ntmobile.servers.admin import Admin, Judged, current_policy, opened, set_mode
from ntmobile.servers.admin_socket import AdminSocket
from ntmobile.servers.config import (
    FederationSettings,
    ServerConfig,
    ServerSettings,
    parse_server,
)
from ntmobile.servers.init import initialise
from ntmobile.store import Counter, Enrolment, Registration
from ntmobile.wire.registration import KeepAliveChoice, Reason

SETTINGS = ServerConfig(
    server=ServerSettings(domain="ntm.example.org", addresses=(ip_address("127.0.0.9"),))
)
FQDN = "laptop.alice.ntm.example.org"
TCP, PUSH = KeepAliveChoice.TCP, KeepAliveChoice.PUSH
TOKEN = "fcm:0123456789abcdef"
LAPTOP = Enrolment(FQDN, "alice", "laptop", b"d" * 32, b"t" * 32, ("ci",))
DENY = '[[rule]]\naction = "deny"\nfrom = ["@ci"]\nto = ["*.bob.ntm.example.org"]\n'


@pytest.fixture
async def admin(tmp_path: Path) -> AsyncIterator[Admin]:
    path = tmp_path / "servers"
    await initialise(path, SETTINGS, entropy=SystemRandom(), now_s=1_800_000_000)
    async with opened(path, SystemRandom()) as domain:
        await domain.add_user("alice", None, 1.0)
        yield domain


async def test_a_password_is_kept_as_its_hash(admin: Admin) -> None:
    await admin.set_password("alice", "correct horse")

    alice = await admin.store.users.get("alice")
    assert alice is not None
    assert alice.password is not None
    assert verify_password(alice.password, "correct horse")


@pytest.mark.parametrize("name", ["", "Alice", "al.ice", "-a", "a" * 64, "ali ce", "älice"])
async def test_what_cannot_be_part_of_a_name_is_no_user(name: str, admin: Admin) -> None:
    with pytest.raises(Remedy, match="cannot be a user"):
        await admin.add_user(name, None, 1.0)


async def test_unknown_users_nodes_keys_and_domains_are_named_with_the_next_command(
    admin: Admin,
) -> None:
    with pytest.raises(Remedy, match="ntm admin user list"):
        await admin.set_password("bob", "correct horse")
    with pytest.raises(Remedy, match="ntm admin user list"):
        await admin.remove_user("bob", 2.0)
    with pytest.raises(Remedy, match=r"there is no node pc\.bob\.ntm\.example\.org"):
        await admin.revoke("pc.bob", 2.0)
    with pytest.raises(Remedy, match="ntm admin key list"):
        await admin.remove_key(7)
    with pytest.raises(Remedy, match="is not listed"):
        await admin.remove_domain("ntm.example.net")


@pytest.mark.parametrize(
    ("changes", "way"),
    [
        ({}, "udp"),
        (
            {"keepalive": TCP, "kntmns": b"i" * 8, "notifier": "ns.example.org"},
            "tcp (ns.example.org)",
        ),
        ({"keepalive": TCP}, "udp (no NS)"),
        ({"keepalive": PUSH, "device_token": TOKEN}, "push"),
        ({"keepalive": PUSH, "device_token": TOKEN, "gone_token": "fcm:an-older-one"}, "push"),
        (
            {"keepalive": PUSH, "device_token": TOKEN, "gone_token": TOKEN},
            "udp (device token gone)",
        ),
        ({"keepalive": PUSH}, "udp (no device token)"),
    ],
)
async def test_the_operator_sees_how_a_registered_node_is_reached_and_why(
    admin: Admin, changes: dict[str, Any], way: str
) -> None:
    await admin.store.registrations.put([Registration(replace(NODE, **changes), 100.0)])

    assert await admin.reached_by(99.0) == {NODE.fqdn: way}
    assert await admin.reached_by(101.0) == {}


async def test_the_running_server_knows_a_revocation_before_the_command_ends(
    admin: Admin,
) -> None:
    await admin.store.nodes.enrol(LAPTOP, 2.0)
    seen: list[frozenset[str]] = []

    async def reload() -> None:
        seen.append((await current_policy(admin.directory, admin.store)).revoked)

    served = AdminSocket(admin.directory.path, ["dc"], reload)
    await served.start()
    told = await admin.revoke("laptop.alice", 3.0)
    await served.stop()

    assert told.servers == 1
    assert seen == [{FQDN}]


async def test_every_change_counts_a_generation(admin: Admin) -> None:
    before = await admin.store.settings.get(Counter.GENERATION)

    await admin.set_mode(Federation.OPEN)
    await admin.add_domain("ntm.example.net", 2.0, key=None, ca=None)

    assert await admin.store.settings.get(Counter.GENERATION) == before + 2


async def test_a_made_key_is_shown_once_and_kept_as_its_digest(admin: Admin) -> None:
    text, key = await admin.create_key(
        "alice", 10.0, reusable=True, ephemeral=False, tags=("ci",), lifetime_s=5.0
    )

    assert text.startswith("ntmkey-")
    assert key.expires_at == 15.0
    assert await admin.store.authorities.find(authority_digest(text)) == key


async def test_a_pin_must_be_a_fingerprint_and_a_ca_a_certificate(admin: Admin) -> None:
    with pytest.raises(Remedy, match="no fingerprint"):
        await admin.add_domain("ntm.example.net", 2.0, key="SHA256:abc", ca=None)
    with pytest.raises(Remedy, match="not a certificate"):
        await admin.add_domain("ntm.example.net", 2.0, key=None, ca=b"hello")
    with pytest.raises(Remedy, match="is this domain itself"):
        await admin.add_domain("NTM.example.org.", 2.0, key=None, ca=None)

    assert await admin.store.federation.list() == ()


async def test_a_pinned_domain_is_listed(admin: Admin) -> None:
    await admin.add_domain("NTM.example.net.", 2.0, key="SHA256:" + "AB" * 32, ca=None)

    known = await admin.store.federation.get("ntm.example.net")
    assert known is not None
    assert known.key_pin == "SHA256:" + "ab" * 32
    assert (await admin.policy()).listed == {"ntm.example.net"}


async def test_a_new_policy_holds_and_a_wrong_one_changes_nothing(admin: Admin) -> None:
    await admin.store.nodes.enrol(LAPTOP, 2.0)
    await admin.set_policy(DENY, "new.toml")
    with pytest.raises(ConfigError, match=r"wrong.toml, line 1"):
        await admin.set_policy("[[rules]]\n", "wrong.toml")

    missing = ("pc.bob.ntm.example.org",)
    assert await admin.test_policy("laptop.alice", "pc.bob") == Judged(
        False, Reason.NOT_ALLOWED, missing
    )
    assert await admin.test_policy("pc.bob", "laptop.alice") == Judged(True, None, missing)


async def test_the_policy_knows_foreign_and_revoked_nodes(admin: Admin) -> None:
    await admin.store.nodes.enrol(LAPTOP, 2.0)
    foreign = "pc.eve.ntm.example.net"

    assert await admin.test_policy(foreign, FQDN) == Judged(False, Reason.FOREIGN_DOMAIN)
    await admin.add_domain("ntm.example.net", 2.0, key=None, ca=None)
    assert await admin.test_policy(foreign, FQDN) == Judged(True, None)
    await admin.revoke(FQDN, 3.0)
    assert await admin.test_policy(foreign, FQDN) == Judged(False, Reason.REVOKED)


async def test_the_mode_is_written_into_the_settings_file(admin: Admin) -> None:
    before = admin.directory.settings_file.read_text()

    await admin.set_mode(Federation.CLOSED)

    after = admin.directory.settings_file.read_text()
    assert after == before.replace('mode = "listed"', 'mode = "closed"')


@given(st.sampled_from(Federation), st.sampled_from(Federation))
def test_setting_the_mode_changes_nothing_else(old: Federation, new: Federation) -> None:
    config = ServerConfig(server=SETTINGS.server, federation=FederationSettings(mode=old))

    edited = parse_server(set_mode(render(config), new))

    assert edited == ServerConfig(server=SETTINGS.server, federation=FederationSettings(mode=new))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", '\n\n[federation]\nmode = "open"\n'),
        ("[federation]\n", '[federation]\nmode = "open"\n'),
        ("[federation]\n[dns]\n", '[federation]\nmode = "open"\n[dns]\n'),
        (
            "[federation] # who\n# mode = 1\n mode='listed' # yes\n[x]\nmode = 1\n",
            '[federation] # who\n# mode = 1\nmode = "open" # yes\n[x]\nmode = 1\n',
        ),
    ],
)
def test_comments_and_other_sections_survive_a_change_of_mode(before: str, after: str) -> None:
    assert set_mode(before, Federation.OPEN) == after
