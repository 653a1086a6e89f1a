from collections.abc import AsyncIterator

import pytest
from tests.runtime.push.rig import Rig


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    await made.open()
    yield made
    await made.close()
