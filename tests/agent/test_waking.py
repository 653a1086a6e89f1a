"""What an app calls when its push message arrives."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from ntmobile.agent.client import AgentNotRunning
from ntmobile.agent.control import ControlSocket
from ntmobile.agent.requests import Answer, AnyRequest, Said, Wake, done
from ntmobile.errors import Remedy
from ntmobile.waking import wake


async def answer(request: AnyRequest) -> AsyncGenerator[Answer, None]:
    assert request == Wake()
    yield Said("contacting the DC")
    yield done({"fqdn": "phone.alice.ntm.example.org"})


async def refuse(request: AnyRequest) -> AsyncGenerator[Answer, None]:
    raise Remedy("dc.ntm.example.org did not answer in 20 s", remedy="ntm status")
    yield done()


async def test_it_returns_when_the_dc_has_answered(tmp_path: Path) -> None:
    control = ControlSocket(tmp_path, answer)
    control.start(None)
    try:
        await asyncio.to_thread(wake, tmp_path)
    finally:
        await control.stop()


async def test_a_silent_dc_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    control = ControlSocket(tmp_path, refuse)
    control.start(None)
    try:
        with pytest.raises(Remedy, match="did not answer"):
            await asyncio.to_thread(wake, tmp_path)
    finally:
        await control.stop()


def test_without_an_agent_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NTM_STATE", str(tmp_path))

    with pytest.raises(AgentNotRunning):
        wake()
