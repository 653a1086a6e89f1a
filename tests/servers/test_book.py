from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ntmobile.proto.coordinator.policy import Federation
from ntmobile.runtime.clock import Clock
from ntmobile.runtime.domains import Known, TrustedBy
from ntmobile.servers.book import StoreBook
from ntmobile.store import Store, create

DOMAIN = "ntm.example.net"
KEY = bytes(range(32))
PIN = "SHA256:" + "ab" * 32


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    url = f"sqlite+aiosqlite:///{tmp_path / 'ntm.db'}"
    create(url)
    store = await Store.open(url)
    yield store
    await store.close()


@pytest.fixture
def book(store: Store) -> StoreBook:
    return StoreBook(store, Clock(), Federation.LISTED)


async def test_an_unknown_domain_is_a_stranger(book: StoreBook) -> None:
    assert await book.look_up(DOMAIN) == Known()


async def test_what_the_operator_gave_and_what_was_trusted_come_back(
    book: StoreBook, store: Store
) -> None:
    await store.federation.add(DOMAIN, 1.0, key_pin=PIN, ca=b"a CA")

    await book.trust(DOMAIN, KEY, TrustedBy.PIN)

    assert await book.look_up(DOMAIN) == Known(True, PIN, "a CA", KEY, TrustedBy.PIN)


@pytest.mark.parametrize(
    ("mode", "listed", "stranger"),
    [
        (Federation.OPEN, True, True),
        (Federation.LISTED, True, False),
        (Federation.CLOSED, False, False),
    ],
)
def test_the_mode_decides_who_is_dealt_with(
    book: StoreBook, mode: Federation, listed: bool, stranger: bool
) -> None:
    book.mode = mode

    assert book.admits(Known(listed=True)) is listed
    assert book.admits(Known()) is stranger


async def test_a_key_that_cannot_be_written_is_trusted_all_the_same(
    book: StoreBook, tmp_path: Path
) -> None:
    (tmp_path / "ntm.db").unlink()

    with capture_logs() as logs:
        await book.trust(DOMAIN, KEY, TrustedBy.WEB)

    assert [entry["event"] for entry in logs] == ["key of a domain not kept"]
