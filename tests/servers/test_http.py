import asyncio
from collections.abc import AsyncIterator
from random import Random
from typing import TYPE_CHECKING

import httpx
import pytest

from ntmobile.keys.identity import public_of
from ntmobile.proto.io import Caller
from ntmobile.runtime.clock import Clock
from ntmobile.runtime.domains import Refused
from ntmobile.runtime.https import MESSAGE_TYPE
from ntmobile.runtime.signed import Signer, Verifier
from ntmobile.servers.config import Role
from ntmobile.servers.http import (
    CLOCK_WRONG,
    KEYS_PATH,
    LOGIN_PATH,
    MAX_BODY,
    MAX_OPEN_A_SOURCE,
    Front,
)
from ntmobile.servers.requests import Overloaded
from ntmobile.wire.federation import KeySharing, SharedKey
from ntmobile.wire.login import LoginRefusal, LoginRefused, NonceRequest
from ntmobile.wire.message import Message, decode, decoder, encode
from ntmobile.wire.registration import NtmAck, Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

OWN = "ntm.example.org"
ASKER = "ntm.example.net"
STRANGER = "ntm.example.com"
KEY = bytes(range(32))
CERTIFICATE = bytes(32)
NONCE = encode(NonceRequest())
SHARING = KeySharing(SharedKey.KDCDC, bytes(8), bytes(32), 3600, ASKER)


class Recorder:
    """A role that writes down what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Caller, Message]] = []
        self.answer: Message = NtmAck()
        self.overloaded = False
        self.wait = asyncio.Event()
        self.wait.set()

    async def take(self, caller: Caller, message: Message) -> Message:
        await self.wait.wait()
        if self.overloaded:
            raise Overloaded("too many requests wait")
        self.asked.append((caller, message))
        return self.answer


async def key_of(domain: str, fresh: bool) -> bytes:
    if domain == STRANGER:
        raise Refused(Reason.FOREIGN_DOMAIN, f"{OWN} does not federate with {STRANGER}")
    return public_of(KEY)


@pytest.fixture
def role() -> Recorder:
    return Recorder()


@pytest.fixture
def front(role: Recorder) -> Front:
    return Front(
        takers={Role.AS: role.take, Role.DC: role.take},
        verifier=Verifier(OWN, key_of),
        statement=lambda: b"statement",
        certificates=lambda: (CERTIFICATE,),
        clock=Clock(),
    )


@pytest.fixture
async def client(front: Front) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(front.application, client=("198.51.100.7", 5))
    headers = {"content-type": MESSAGE_TYPE}
    async with httpx.AsyncClient(
        transport=transport, base_url="https://as", headers=headers
    ) as client:
        yield client


def signed(body: bytes, asker: str = ASKER, off_s: int = 0) -> "Mapping[str, str]":
    return Signer(asker, KEY, Random()).headers(
        KEYS_PATH, body, asked=OWN, certificate=CERTIFICATE, time_s=int(Clock().wall()) + off_s
    )


async def test_a_node_asks_as_a_stranger_from_its_address(
    client: httpx.AsyncClient, role: Recorder
) -> None:
    answer = await client.post(LOGIN_PATH, content=NONCE)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == MESSAGE_TYPE
    assert role.asked == [(Caller(None, "198.51.100.7"), NonceRequest())]


async def test_a_signed_request_comes_in_the_name_of_its_domain(
    client: httpx.AsyncClient, role: Recorder
) -> None:
    body = encode(SHARING)

    answer = await client.post(KEYS_PATH, content=body, headers=signed(body))

    assert decode(decoder(NtmAck), answer.content) == NtmAck()
    assert role.asked == [(Caller(ASKER, "198.51.100.7"), SHARING)]


async def test_an_unsigned_request_between_servers_is_refused(
    client: httpx.AsyncClient, role: Recorder
) -> None:
    answer = await client.post(KEYS_PATH, content=encode(SHARING))

    assert answer.status_code == 401
    assert "not signed" in answer.text
    assert role.asked == []


async def test_a_wrong_clock_is_told_apart_from_a_wrong_signature(
    client: httpx.AsyncClient, role: Recorder
) -> None:
    body = encode(SHARING)

    answer = await client.post(KEYS_PATH, content=body, headers=signed(body, off_s=-86400))

    assert answer.status_code == CLOCK_WRONG
    assert f"the clock of {ASKER}" in answer.text
    assert role.asked == []


async def test_a_domain_that_is_not_listed_is_told_so(
    client: httpx.AsyncClient, role: Recorder
) -> None:
    body = encode(SHARING)

    answer = await client.post(KEYS_PATH, content=body, headers=signed(body, STRANGER))

    assert answer.status_code == 403
    assert answer.text == f"{OWN} does not federate with {STRANGER}"
    assert role.asked == []


async def test_a_login_cannot_come_where_servers_talk(client: httpx.AsyncClient) -> None:
    answer = await client.post(KEYS_PATH, content=NONCE, headers=signed(NONCE))

    assert answer.status_code == 400


@pytest.mark.parametrize(
    "body", [b"", b"\xc1", b"garbage", bytes(1000), b"\x91\x30" + b"\x91" * 99]
)
async def test_garbage_is_a_bad_request(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post(LOGIN_PATH, content=body)

    assert answer.status_code == 400


async def test_a_long_body_is_cut(client: httpx.AsyncClient) -> None:
    answer = await client.post(LOGIN_PATH, content=bytes(MAX_BODY + 1))

    assert answer.status_code == 413


async def test_another_content_type_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post(LOGIN_PATH, content=NONCE, headers={"content-type": "text/plain"})

    assert answer.status_code == 415


async def test_a_role_that_does_not_run_here_is_not_found(client: httpx.AsyncClient) -> None:
    sharing = KeySharing(SharedKey.KDCRS, bytes(8), bytes(32), 3600, ASKER)
    body = encode(sharing)

    answer = await client.post(KEYS_PATH, content=body, headers=signed(body))

    assert answer.status_code == 404
    assert "RS does not run here" in answer.text


@pytest.mark.parametrize("reason", [LoginRefused.BUSY, LoginRefused.STORE])
async def test_a_refusal_for_now_is_a_503_that_still_says_why(
    client: httpx.AsyncClient, role: Recorder, reason: LoginRefused
) -> None:
    role.answer = LoginRefusal(reason, 2)

    answer = await client.post(LOGIN_PATH, content=NONCE)

    assert answer.status_code == 503
    assert decode(decoder(LoginRefusal), answer.content) == role.answer


async def test_an_overloaded_role_asks_to_come_back(
    client: httpx.AsyncClient, role: Recorder
) -> None:
    role.overloaded = True

    answer = await client.post(LOGIN_PATH, content=NONCE)

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "2"


async def test_one_source_cannot_hold_all_places(
    client: httpx.AsyncClient, role: Recorder, front: Front
) -> None:
    role.wait.clear()
    waiting = [
        asyncio.ensure_future(client.post(LOGIN_PATH, content=NONCE))  # noqa: TID251
        for _ in range(MAX_OPEN_A_SOURCE + 1)
    ]
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)

    role.wait.set()
    answers = [answer.status_code for answer in await asyncio.gather(*waiting)]

    assert [task.result().status_code for task in done] == [503]
    assert answers.count(200) == MAX_OPEN_A_SOURCE
    assert front.counters == {"200": MAX_OPEN_A_SOURCE, "503": 1}


async def test_the_domains_statement_is_for_everybody(client: httpx.AsyncClient) -> None:
    answer = await client.get("/.well-known/ntm")

    assert answer.content == b"statement"
