from ntmobile.store import Store

DIGEST = b"k" * 32


async def test_a_key_is_found_by_its_digest(store: Store) -> None:
    number = await store.authorities.add(
        DIGEST, "alice", 1.0, reusable=True, ephemeral=True, tags=("ci", "lab"), expires_at=9.0
    )

    found = await store.authorities.find(DIGEST)

    assert found is not None
    assert (found.id, found.user, found.tags) == (number, "alice", ("ci", "lab"))
    assert (found.reusable, found.ephemeral, found.expires_at) == (True, True, 9.0)
    assert await store.authorities.list() == (found,)


async def test_a_key_is_good_until_it_expires(store: Store) -> None:
    await store.authorities.add(DIGEST, "alice", 1.0, expires_at=9.0)
    found = await store.authorities.find(DIGEST)

    assert found is not None
    assert found.is_good(8.9)
    assert not found.is_good(9.0)


async def test_nobody_elses_key_can_be_made(store: Store) -> None:
    assert await store.authorities.add(DIGEST, "nobody", 1.0) is None


async def test_keys_go_with_their_user(store: Store) -> None:
    await store.authorities.add(DIGEST, "alice", 1.0)

    await store.users.remove("alice", 2.0)

    assert await store.authorities.find(DIGEST) is None


async def test_a_removed_key_is_gone(store: Store) -> None:
    number = await store.authorities.add(DIGEST, "alice", 1.0)
    assert number is not None

    assert await store.authorities.remove(number)
    assert not await store.authorities.remove(number)
