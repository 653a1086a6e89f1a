import asyncio
from dataclasses import replace

from ntmobile.store import Enrolled, Enrolment, Store

FQDN = "laptop.alice.ntm.example.org"
LAPTOP = Enrolment(FQDN, "alice", "laptop", b"1" * 32, b"t" * 32, ("ci",))
OTHER_KEY = replace(LAPTOP, device=b"2" * 32, tags=())


async def test_a_device_key_is_enrolled_once_and_seen_again(store: Store) -> None:
    assert await store.nodes.enrol(LAPTOP, 2.0) is Enrolled.DONE
    assert await store.nodes.enrol(replace(LAPTOP, tags=()), 3.0) is Enrolled.DONE

    node = await store.nodes.get(FQDN)
    assert node is not None
    assert (node.enrolled_at, node.seen_at, node.tags) == (2.0, 3.0, ("ci",))


async def test_another_device_key_does_not_get_the_name(store: Store) -> None:
    await store.nodes.enrol(LAPTOP, 2.0)

    assert await store.nodes.enrol(OTHER_KEY, 3.0) is Enrolled.NAME_TAKEN
    assert await store.nodes.enrol(OTHER_KEY, 3.0, successor_of=b"9" * 32) is Enrolled.NAME_TAKEN


async def test_a_successor_of_the_device_key_gets_the_name(store: Store) -> None:
    await store.nodes.enrol(LAPTOP, 2.0)

    outcome = await store.nodes.enrol(OTHER_KEY, 3.0, successor_of=LAPTOP.device)

    assert outcome is Enrolled.DONE
    assert await device_of(store) == OTHER_KEY.device


async def test_the_operators_leave_lets_one_new_device_key_in(store: Store) -> None:
    await store.nodes.enrol(LAPTOP, 2.0)
    assert await store.nodes.allow_rekey(FQDN)

    first = await store.nodes.enrol(OTHER_KEY, 3.0)
    second = await store.nodes.enrol(replace(OTHER_KEY, device=b"3" * 32), 4.0)

    assert (first, second) == (Enrolled.DONE, Enrolled.NAME_TAKEN)


async def test_a_revoked_device_key_stays_out_and_its_name_is_free(store: Store) -> None:
    await store.nodes.enrol(LAPTOP, 2.0)
    assert await store.nodes.revoke(FQDN, 3.0)
    assert await store.nodes.revoked() == {FQDN}

    assert await store.nodes.enrol(LAPTOP, 4.0) is Enrolled.REVOKED
    assert await store.nodes.enrol(replace(LAPTOP, fqdn="x." + FQDN), 4.0) is Enrolled.REVOKED
    assert await store.nodes.enrol(OTHER_KEY, 5.0) is Enrolled.DONE
    assert await store.nodes.revoked() == frozenset()


async def test_a_name_can_be_revoked_again_and_again(store: Store) -> None:
    for number in range(3):
        node = replace(LAPTOP, device=bytes((number,)) * 32)
        assert await store.nodes.enrol(node, float(number)) is Enrolled.DONE
        assert await store.nodes.revoke(FQDN, float(number))
        assert await store.nodes.revoke(FQDN, float(number))

    assert await store.nodes.revoked() == {FQDN}


async def test_nodes_of_a_disabled_user_are_shut_out_until_it_is_enabled(store: Store) -> None:
    await store.nodes.enrol(LAPTOP, 2.0)

    await store.users.set_disabled("alice", disabled=True)
    assert await store.nodes.revoked() == {FQDN}
    assert await store.nodes.enrol(LAPTOP, 3.0) is Enrolled.NO_USER

    await store.users.set_disabled("alice", disabled=False)
    assert await store.nodes.revoked() == frozenset()


async def test_a_single_use_key_enrols_one_of_many_at_once(store: Store) -> None:
    key = await store.authorities.add(b"k" * 32, "alice", 1.0)
    rivals = [
        replace(LAPTOP, fqdn=f"n{n}.alice.d.example", device=bytes((n,)) * 32) for n in range(8)
    ]

    outcomes = await asyncio.gather(
        *(store.nodes.enrol(each, 2.0, authority=key) for each in rivals)
    )

    assert sorted(each.value for each in outcomes) == ["authority-used"] * 7 + ["done"]
    assert len(await store.nodes.list()) == 1


async def test_a_refused_enrolment_does_not_use_up_its_key(store: Store) -> None:
    await store.nodes.enrol(LAPTOP, 2.0)
    key = await store.authorities.add(b"k" * 32, "alice", 1.0)

    assert await store.nodes.enrol(OTHER_KEY, 3.0, authority=key) is Enrolled.NAME_TAKEN

    found = await store.authorities.find(b"k" * 32)
    assert found is not None
    assert found.used_at is None


async def test_a_login_by_device_key_renews_the_tunnel_key(store: Store) -> None:
    await store.nodes.enrol(LAPTOP, 2.0)

    await store.nodes.seen(FQDN, b"u" * 32, 9.0)

    node = await store.nodes.get(FQDN)
    assert node is not None
    assert (node.tunnel, node.seen_at) == (b"u" * 32, 9.0)


async def test_nodes_are_listed_by_user(store: Store) -> None:
    await store.users.add("bob", None, 1.0)
    await store.nodes.enrol(LAPTOP, 2.0)
    bobs = Enrolment("pc.bob.d.example", "bob", "pc", b"b" * 32, b"t" * 32)
    await store.nodes.enrol(bobs, 2.0)

    assert [each.fqdn for each in await store.nodes.list("bob")] == ["pc.bob.d.example"]
    assert len(await store.nodes.list()) == 2


async def test_an_ephemeral_node_is_forgotten_when_it_is_gone_for_an_hour(store: Store) -> None:
    await store.nodes.enrol(replace(LAPTOP, ephemeral=True), 1000.0)

    await store.sweep(4599.0)
    assert await store.nodes.get(FQDN) is not None
    await store.sweep(4601.0)
    assert await store.nodes.get(FQDN) is None


async def device_of(store: Store) -> bytes:
    node = await store.nodes.get(FQDN)
    assert node is not None
    return node.device
