from random import Random

import pytest

from ntmobile.keys.identity import public_of
from ntmobile.runtime.signed import SignatureWrong, Signer, Verifier

ASKER = "ntm.example.org"
ASKED = "ntm.example.net"
KEY = bytes(range(32))
NEW_KEY = bytes(32)
CERTIFICATE = bytes(32)
PATH = "/ntm/v1/keys"
BODY = b"a message"
NOW_S = 1_800_000_000


class Keys:
    """The keys of asking domains as this side knows them."""

    def __init__(self) -> None:
        self.known = public_of(KEY)
        self.now = public_of(KEY)
        self.looked = 0

    async def __call__(self, domain: str, fresh: bool) -> bytes:
        assert domain == ASKER
        self.looked += fresh
        if fresh:
            self.known = self.now
        return self.known


@pytest.fixture
def keys() -> Keys:
    return Keys()


@pytest.fixture
def verifier(keys: Keys) -> Verifier:
    return Verifier(ASKED, keys)


def signed(
    *,
    asked: str = ASKED,
    certificate: bytes = CERTIFICATE,
    time_s: int = NOW_S,
    key: bytes = KEY,
    seed: int = 1,
) -> dict[str, str]:
    headers = Signer(ASKER, key, Random(seed)).headers(
        PATH, BODY, asked=asked, certificate=certificate, time_s=time_s
    )
    return {name.lower(): value for name, value in headers.items()}


async def check(
    verifier: Verifier, headers: dict[str, str], *, path: str = PATH, body: bytes = BODY
) -> str:
    return await verifier.check(path, body, headers, certificates=[CERTIFICATE], now_s=NOW_S)


async def test_a_signed_request_names_its_domain(verifier: Verifier) -> None:
    assert await check(verifier, signed()) == ASKER


async def test_a_request_is_good_once(verifier: Verifier) -> None:
    headers = signed()
    await check(verifier, headers)

    with pytest.raises(SignatureWrong, match="seen before"):
        await check(verifier, headers)


async def test_another_body_path_certificate_or_key_is_refused(verifier: Verifier) -> None:
    for attempt in (
        check(verifier, signed(), body=b"another"),
        check(verifier, signed(), path="/ntm/v1/login"),
        check(verifier, signed(certificate=bytes(31) + b"\x01")),
        check(verifier, signed(key=NEW_KEY)),
    ):
        with pytest.raises(SignatureWrong, match="the signature is not by the key"):
            await attempt


async def test_a_request_for_another_domain_is_refused(verifier: Verifier) -> None:
    with pytest.raises(SignatureWrong, match=r"this is ntm\.example\.net"):
        await check(verifier, signed(asked="ntm.example.com"))


@pytest.mark.parametrize(("off_s", "word"), [(86400, "ahead of"), (-86400, "behind")])
async def test_a_clock_that_is_off_by_a_day_is_named(
    verifier: Verifier, off_s: int, word: str
) -> None:
    with pytest.raises(SignatureWrong, match=f"clock of {ASKER} is 86400 s {word}"):
        await check(verifier, signed(time_s=NOW_S + off_s))


async def test_a_clock_off_by_four_minutes_is_good(verifier: Verifier) -> None:
    assert await check(verifier, signed(time_s=NOW_S - 240)) == ASKER


async def test_a_new_key_is_looked_up_before_it_is_refused(verifier: Verifier, keys: Keys) -> None:
    keys.now = public_of(NEW_KEY)

    assert await check(verifier, signed(key=NEW_KEY)) == ASKER
    assert keys.looked == 1


@pytest.mark.parametrize("missing", ["ntm-domain", "ntm-time", "ntm-nonce", "ntm-signature"])
async def test_an_unsigned_request_is_refused(verifier: Verifier, missing: str) -> None:
    headers = signed()
    del headers[missing]

    with pytest.raises(SignatureWrong, match=missing):
        await check(verifier, headers)


@pytest.mark.parametrize(
    ("name", "value"),
    [("ntm-time", "now"), ("ntm-time", "-1"), ("ntm-nonce", "?"), ("ntm-signature", "AAAA")],
)
async def test_malformed_headers_are_refused(verifier: Verifier, name: str, value: str) -> None:
    with pytest.raises(SignatureWrong):
        await check(verifier, signed() | {name: value})


async def test_refused_requests_leave_nothing_behind(verifier: Verifier) -> None:
    headers = signed()
    with pytest.raises(SignatureWrong):
        await check(verifier, headers, body=b"another")

    assert await check(verifier, headers) == ASKER
