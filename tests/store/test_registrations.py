from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import sqlalchemy as sa

from ntmobile.proto.coordinator.settings import StoredNode
from ntmobile.store import Registration, Store
from ntmobile.time import Instant
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.identity import PublicIdentity

NODE = StoredNode(
    fqdn="laptop.alice.ntm.example.org",
    identity=PublicIdentity(b"d" * 32, b"t" * 32, b"s" * 64),
    groups=("staff",),
    kntmdc=b"k" * 32,
    identifier=b"i" * 8,
    expires=Instant(0),
    virtual_ipv4=IPv4Address("100.64.0.16"),
    virtual_ipv6=IPv6Address("fd00::1"),
    instance=b"n" * 16,
    started=3,
    sequence=7,
    local=(Endpoint("192.0.2.5", 4330),),
    mapped=(Endpoint("203.0.113.5", 40000), Endpoint("2001:db8::5", 4330)),
    relay_only=True,
    aes=False,
)


async def test_a_registration_comes_back_as_it_was(store: Store) -> None:
    await store.registrations.put([Registration(NODE, 100.0)])

    assert await store.registrations.valid(99.0) == (Registration(NODE, 100.0),)


async def test_the_machines_own_time_is_not_kept(store: Store) -> None:
    await store.registrations.put([Registration(replace(NODE, expires=Instant(99)), 100.0)])

    assert await store.registrations.valid(99.0) == (Registration(NODE, 100.0),)


async def test_a_later_registration_replaces_the_earlier(store: Store) -> None:
    later = replace(NODE, sequence=8)
    await store.registrations.put([Registration(NODE, 100.0), Registration(later, 200.0)])

    assert await store.registrations.valid(150.0) == (Registration(later, 200.0),)


async def test_an_expired_registration_is_not_restored_and_is_swept(store: Store) -> None:
    await store.registrations.put([Registration(NODE, 100.0)])

    assert await store.registrations.valid(100.0) == ()
    await store.sweep(100.0)
    assert await store.registrations.valid(0.0) == ()


async def test_a_revoked_node_is_not_restored(store: Store) -> None:
    from ntmobile.store import Enrolment

    await store.nodes.enrol(Enrolment(NODE.fqdn, "alice", "laptop", b"d" * 32, b"t" * 32), 1.0)
    await store.registrations.put([Registration(NODE, 100.0)])

    await store.nodes.revoke(NODE.fqdn, 2.0)

    assert await store.registrations.valid(0.0) == ()


async def test_a_registration_that_cannot_be_read_is_left_out(
    file_store: Store, file: Path
) -> None:
    other = replace(NODE, fqdn="pc.alice.ntm.example.org")
    await file_store.registrations.put([Registration(NODE, 100.0), Registration(other, 100.0)])
    engine = sa.create_engine(f"sqlite:///{file}")
    with engine.begin() as connection:
        damage = "UPDATE registrations SET content = x'93' WHERE fqdn = :fqdn"
        connection.execute(sa.text(damage), {"fqdn": NODE.fqdn})
    engine.dispose()

    assert await file_store.registrations.valid(0.0) == (Registration(other, 100.0),)
