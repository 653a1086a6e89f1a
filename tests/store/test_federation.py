from ntmobile.store import Store

DOMAIN = "ntm.example.net"


async def test_a_listed_domain_keeps_what_the_operator_pinned(store: Store) -> None:
    await store.federation.add(DOMAIN, 1.0, key_pin="SHA256:00", ca=b"PEM")

    known = await store.federation.get(DOMAIN)

    assert known is not None
    assert (known.key_pin, known.ca, known.key, known.listed) == ("SHA256:00", b"PEM", None, True)
    assert await store.federation.listed() == {DOMAIN}


async def test_a_trusted_key_is_remembered_without_listing_the_domain(store: Store) -> None:
    await store.federation.trust(DOMAIN, b"k" * 32, "web", 5.0)

    known = await store.federation.get(DOMAIN)

    assert known is not None
    assert (known.key, known.trusted_by, known.trusted_at) == (b"k" * 32, "web", 5.0)
    assert await store.federation.listed() == frozenset()


async def test_adding_a_domain_again_forgets_the_key_that_was_trusted(store: Store) -> None:
    await store.federation.add(DOMAIN, 1.0)
    await store.federation.trust(DOMAIN, b"k" * 32, "web", 5.0)

    await store.federation.add(DOMAIN, 6.0, key_pin="SHA256:00")

    known = await store.federation.get(DOMAIN)
    assert known is not None
    assert (known.key, known.key_pin) == (None, "SHA256:00")


async def test_a_removed_domain_is_unknown(store: Store) -> None:
    await store.federation.add(DOMAIN, 1.0)

    assert await store.federation.remove(DOMAIN)
    assert not await store.federation.remove(DOMAIN)
    assert await store.federation.list() == ()
