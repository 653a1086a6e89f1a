from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ntmobile.store import Store, create


@pytest.fixture
def url(tmp_path: Path) -> str:
    made = f"sqlite+aiosqlite:///{tmp_path / 'ntm.db'}"
    create(made)
    return made


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    opened = await Store.open(url)
    await opened.users.add("alice", "hash", 1.0)
    yield opened
    await opened.close()
