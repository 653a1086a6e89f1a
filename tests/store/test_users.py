from ntmobile.store import Enrolment, Store


async def test_a_name_is_given_once(store: Store) -> None:
    assert not await store.users.add("alice", "other", 2.0)

    alice = await store.users.get("alice")
    assert alice is not None
    assert alice.password == "hash"


async def test_an_unknown_user_cannot_be_changed(store: Store) -> None:
    assert await store.users.get("bob") is None
    assert not await store.users.set_password("bob", "hash")
    assert not await store.users.set_disabled("bob", disabled=True)
    assert not await store.users.remove("bob", 2.0)


async def test_a_hash_does_not_show_in_a_representation(store: Store) -> None:
    assert "hash" not in repr(await store.users.get("alice"))


async def test_removing_a_user_revokes_its_nodes_even_when_the_name_comes_back(
    store: Store,
) -> None:
    fqdn = "laptop.alice.ntm.example.org"
    await store.nodes.enrol(Enrolment(fqdn, "alice", "laptop", b"d" * 32, b"t" * 32), 2.0)

    await store.users.remove("alice", 3.0)
    await store.users.add("alice", "hash", 4.0)

    assert await store.nodes.get(fqdn) is None
    assert await store.nodes.is_revoked(b"d" * 32)
    assert await store.nodes.revoked() == {fqdn}


async def test_removing_a_user_spares_another_ones_nodes(store: Store) -> None:
    await store.users.add("bob", None, 1.0)
    fqdn = "pc.bob.ntm.example.org"
    await store.nodes.enrol(Enrolment(fqdn, "bob", "pc", b"d" * 32, b"t" * 32), 2.0)

    await store.users.remove("alice", 3.0)

    assert await store.nodes.get(fqdn) is not None
    assert await store.nodes.revoked() == frozenset()
