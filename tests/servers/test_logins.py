import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from ipaddress import ip_address
from pathlib import Path
from random import Random
from threading import Event

import pytest

from ntmobile.keys.identity import Identity, succeed
from ntmobile.keys.passwords import Cost, authority_digest, hash_password
from ntmobile.proto.io import LoginVerified, VerifyLogin
from ntmobile.runtime.clock import Clock
from ntmobile.servers.authority import NodeAuthority
from ntmobile.servers.config import ServerConfig, ServerSettings
from ntmobile.servers.logins import BUSY_S, WAITING_A_PREFIX, Logins
from ntmobile.servers.policy import parse_policy
from ntmobile.servers.slow_down import FREE_TRIES
from ntmobile.store import Store, create
from ntmobile.wire.login import LoginRefusal, LoginRefused, LoginRequest

DOMAIN = "ntm.example.org"
FQDN = "laptop.alice.ntm.example.org"
CHEAP = Cost(passes=1, memory_kib=8, lanes=1)
SETTINGS = ServerConfig(
    server=ServerSettings(domain=DOMAIN, addresses=(ip_address("203.0.113.10"),))
)
POLICY = '[groups]\nstaff = ["alice"]\n'
LAPTOP = Identity.of(b"1" * 32, b"t" * 32)
THIEF = Identity.of(b"2" * 32, b"t" * 32)
GOOD = "correct horse"
REFUSED = LoginRefusal(LoginRefused.CREDENTIALS)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    url = f"sqlite+aiosqlite:///{tmp_path / 'ntm.db'}"
    create(url)
    opened = await Store.open(url)
    await opened.users.add("alice", hash_password(GOOD, bytes(16), CHEAP), 1.0)
    yield opened
    await opened.close()


@pytest.fixture
async def logins(store: Store) -> AsyncIterator[Logins]:
    nobody = NodeAuthority(SETTINGS, None, (), Random(1), Clock())
    made = Logins(DOMAIN, store, parse_policy(POLICY), Clock(), nobody, cost=CHEAP)
    yield made
    made.close()


async def test_the_password_enrols_the_device_key_which_then_suffices(logins: Logins) -> None:
    first = await logins.verify(login(password=GOOD))
    later = await logins.verify(login())

    assert first == later == LoginVerified(FQDN, ("staff",))


async def test_a_device_key_that_was_never_enrolled_is_refused(logins: Logins) -> None:
    assert await logins.verify(login()) == REFUSED


async def test_wrong_password_and_unknown_user_get_the_same_answer(logins: Logins) -> None:
    wrong = await logins.verify(login(password="wrong"))
    unknown = await logins.verify(login(user="mallory", password=GOOD))

    assert wrong == unknown == REFUSED


async def test_an_unknown_user_costs_a_check_of_a_password(
    store: Store, logins: Logins, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []

    def count(hashed: str, password: str) -> bool:
        checked.append(hashed)
        return False

    monkeypatch.setattr("ntmobile.servers.logins.verify_password", count)
    await store.users.add("keyonly", None, 1.0)
    for user in ("alice", "mallory", "keyonly"):
        await logins.verify(login(user=user, password=GOOD))

    assert len(checked) == 3
    parameters = {hashed.rpartition("$")[0].rpartition("$")[0] for hashed in checked}
    assert parameters == {"$argon2id$v=19$m=8,t=1,p=1"}


async def test_guessing_is_slowed_down_and_the_user_elsewhere_is_not(logins: Logins) -> None:
    for _ in range(FREE_TRIES):
        assert await logins.verify(login(password="wrong")) == REFUSED

    here = await logins.verify(login(password=GOOD))
    elsewhere = await logins.verify(login(password=GOOD, source="198.51.100.1"))

    assert here == LoginRefusal(LoginRefused.SLOW_DOWN, 1)
    assert isinstance(elsewhere, LoginVerified)


async def test_a_device_key_is_never_slowed_down(logins: Logins) -> None:
    await logins.verify(login(password=GOOD))
    for _ in range(FREE_TRIES + 1):
        await logins.verify(login(password="wrong"))

    assert isinstance(await logins.verify(login()), LoginVerified)


async def test_a_flood_from_one_network_is_told_to_come_back_and_leaves_room_for_others(
    logins: Logins, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Event()
    monkeypatch.setattr("ntmobile.servers.logins.verify_password", lambda _hash, _text: held.wait())
    flood = login(user="mallory", password="wrong")
    one_too_many = [login(user=f"user{n}", password="wrong") for n in range(WAITING_A_PREFIX + 1)]
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(logins.verify(each)) for each in one_too_many]
        await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        other = group.create_task(logins.verify(login(password=GOOD, source="198.51.100.1")))
        held.set()

    answers = Counter(each.result() for each in asked)
    assert answers == {REFUSED: WAITING_A_PREFIX, LoginRefusal(LoginRefused.BUSY, BUSY_S): 1}
    assert isinstance(other.result(), LoginVerified)
    assert await logins.verify(flood) == REFUSED


async def test_another_device_key_does_not_get_the_name_even_with_the_password(
    logins: Logins,
) -> None:
    await logins.verify(login(password=GOOD))

    answer = await logins.verify(login(THIEF, password=GOOD))

    assert answer == LoginRefusal(LoginRefused.NAME_TAKEN)


async def test_a_successor_gets_the_name_with_the_password_only(logins: Logins) -> None:
    await logins.verify(login(password=GOOD))
    signature = succeed(LAPTOP.device, THIEF.public.device)

    without = await logins.verify(login(THIEF, successor=signature))
    with_password = await logins.verify(login(THIEF, password=GOOD, successor=signature))

    assert without == REFUSED
    assert isinstance(with_password, LoginVerified)
    assert await logins.verify(login()) == REFUSED


async def test_a_forged_succession_is_called_wrong(logins: Logins) -> None:
    await logins.verify(login(password=GOOD))
    forged = succeed(THIEF.device, THIEF.public.device)

    answer = await logins.verify(login(THIEF, password=GOOD, successor=forged))

    assert answer == LoginRefusal(LoginRefused.IDENTITY)


async def test_the_operators_leave_lets_another_device_key_in(store: Store, logins: Logins) -> None:
    await logins.verify(login(password=GOOD))
    await store.nodes.allow_rekey(FQDN)

    assert isinstance(await logins.verify(login(THIEF, password=GOOD)), LoginVerified)


async def test_a_revoked_node_is_refused_with_and_without_password(
    store: Store, logins: Logins
) -> None:
    await logins.verify(login(password=GOOD))
    await store.nodes.revoke(FQDN, 2.0)

    refused = LoginRefusal(LoginRefused.REVOKED)
    assert await logins.verify(login()) == refused
    assert await logins.verify(login(password=GOOD)) == refused


async def test_a_disabled_user_is_refused(store: Store, logins: Logins) -> None:
    await logins.verify(login(password=GOOD))
    await store.users.set_disabled("alice", disabled=True)

    assert await logins.verify(login()) == REFUSED
    assert await logins.verify(login(password=GOOD)) == REFUSED


async def test_a_single_use_key_enrols_one_node_with_its_tags(store: Store, logins: Logins) -> None:
    await store.authorities.add(authority_digest("ntmkey-x"), "alice", 1.0, tags=("ci",))

    first = await logins.verify(login(authority="ntmkey-x"))
    second = await logins.verify(login(THIEF, name="pc", authority="ntmkey-x"))

    assert first == LoginVerified(FQDN, ("staff", "ci"))
    assert second == REFUSED
    assert await logins.verify(login()) == first


async def test_a_key_of_another_user_or_expired_or_unknown_is_refused(
    store: Store, logins: Logins
) -> None:
    await store.users.add("bob", None, 1.0)
    await store.authorities.add(authority_digest("bobs"), "bob", 1.0)
    await store.authorities.add(authority_digest("old"), "alice", 1.0, expires_at=2.0)

    for key in ("bobs", "old", "unknown"):
        assert await logins.verify(login(authority=key)) == REFUSED


async def test_a_changed_policy_changes_the_groups_of_the_next_login(logins: Logins) -> None:
    await logins.verify(login(password=GOOD))

    logins.set_policy(parse_policy('[groups]\nadmins = ["laptop.alice.ntm.example.org"]\n'))

    assert await logins.verify(login()) == LoginVerified(FQDN, ("admins",))


async def test_a_database_that_went_away_refuses_and_heals(tmp_path: Path, logins: Logins) -> None:
    await logins.verify(login(password=GOOD))
    file = tmp_path / "ntm.db"
    file.rename(tmp_path / "away")

    refusal = await logins.verify(login())
    (tmp_path / "away").rename(file)

    assert isinstance(refusal, LoginRefusal)
    assert refusal.reason is LoginRefused.STORE
    assert isinstance(await logins.verify(login()), LoginVerified)


def login(
    identity: Identity = LAPTOP,
    *,
    user: str = "alice",
    name: str = "laptop",
    password: str | None = None,
    authority: str | None = None,
    successor: bytes | None = None,
    source: str = "192.0.2.1",
) -> VerifyLogin:
    """The AS's machine checked nonce and signature before, so here they are blank."""
    request = LoginRequest(
        user, name, identity.public, b"nonce", bytes(64), password, authority, successor
    )
    return VerifyLogin(1, request, source)
