import random
import shutil
import subprocess
import sys
from ipaddress import IPv4Address, IPv6Address
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntmobile.agent.records import (
    Choices,
    LastGood,
    SavedAccount,
    SavedPeer,
    Trust,
    VirtualAddresses,
    decode,
    encode,
    parse_endpoint,
)
from ntmobile.agent.state import State, open_state
from ntmobile.errors import Remedy
from ntmobile.wire.endpoint import Endpoint

ACCOUNT = SavedAccount(user="alice", name="laptop", domain="ntm.example.org")
ADDRESSES = VirtualAddresses(IPv4Address("100.64.0.2"), IPv6Address("fd00::2"))
SERVERS = LastGood(
    account_server="as.ntm.example.org",
    account_endpoints=(Endpoint("192.0.2.1", 443),),
    coordinator="dc.ntm.example.org",
    coordinator_endpoints=(Endpoint("192.0.2.1", 4330), Endpoint("2001:db8::1", 4330)),
    domain_key=bytes(32),
)
PEER = SavedPeer(bytes(range(32)), ADDRESSES.ipv4, ADDRESSES.ipv6, 1_700_000_000)

endpoints = st.builds(
    Endpoint,
    st.ip_addresses(),
    st.integers(0, 65535),
)


def state_in(directory: Path) -> State:
    return open_state(directory, random.Random(1))


def test_everything_kept_is_there_after_a_restart(tmp_path: Path) -> None:
    before = state_in(tmp_path / "state")
    before.keep_account(ACCOUNT)
    before.keep_servers(SERVERS)
    before.keep_addresses(ADDRESSES)
    before.keep_choices(Choices(operator="carol", relay_only=True))
    before.keep_peer("pc.bob.ntm.example.net", PEER)

    after = state_in(tmp_path / "state")

    assert after.identity == before.identity
    assert (after.account, after.servers, after.addresses) == (ACCOUNT, SERVERS, ADDRESSES)
    assert after.choices == Choices(operator="carol", relay_only=True)
    assert after.peers == {"pc.bob.ntm.example.net": PEER}


def test_a_new_state_makes_its_own_identity(tmp_path: Path) -> None:
    entropy = random.Random(1)

    one, other = open_state(tmp_path / "1", entropy), open_state(tmp_path / "2", entropy)

    assert one.identity.public != other.identity.public


def test_nobody_else_may_read_any_of_it(tmp_path: Path) -> None:
    state = state_in(tmp_path / "state")
    state.keep_account(ACCOUNT)

    assert state.directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in state.directory.iterdir()} == {0o600}


def test_logout_forgets_the_account_but_not_the_keys_and_pins(tmp_path: Path) -> None:
    state = state_in(tmp_path)
    state.keep_account(ACCOUNT)
    state.keep_servers(SERVERS)
    state.keep_peer("pc.bob.ntm.example.net", PEER)

    state.forget_account()

    after = state_in(tmp_path)
    assert (after.account, after.servers, after.addresses) == (None, LastGood(), None)
    assert after.identity == state.identity
    assert after.peers == {"pc.bob.ntm.example.net": PEER}


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 2**40), min_size=2, max_size=6))
def test_the_start_number_grows_whatever_the_clock_does(clocks: list[int]) -> None:
    with TemporaryDirectory() as directory:
        numbers = [state_in(Path(directory)).next_start(now_s) for now_s in clocks]

    assert all(earlier < later for earlier, later in pairwise(numbers))


def test_the_start_number_grows_with_the_clock_when_it_cannot_be_kept(tmp_path: Path) -> None:
    first = state_in(tmp_path).next_start(1_700_000_000)
    (tmp_path / "started").unlink()

    assert state_in(tmp_path).next_start(1_700_000_005) > first


@pytest.mark.parametrize("name", ["identity.json", "account.json", "peers.json", "choices.json"])
@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b"\xff\xfe"])
def test_a_damaged_file_is_named_and_left_alone(tmp_path: Path, name: str, damage: bytes) -> None:
    state_in(tmp_path).keep_account(ACCOUNT)
    (tmp_path / name).write_bytes(damage)

    with pytest.raises(Remedy, match=name) as raised:
        state_in(tmp_path)

    assert "ntm up" in raised.value.remedy
    assert (tmp_path / name).read_bytes() == damage


def test_a_state_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(Remedy, match="cannot use the state directory"):
        state_in(tmp_path / "file" / "state")


FULL_DISK = """
import random, resource, sys
from pathlib import Path
from ntmobile.agent.records import SavedAccount
from ntmobile.agent.state import open_state
state = open_state(Path(sys.argv[1]), random.Random(1))
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (16, hard))
account = SavedAccount(user="alice", name="laptop", domain="ntm.example.org")
state.keep_account(account)
assert state.account == account, "memory is the truth"
assert "account.json" in state.trouble, state.trouble
assert not state.flush()
assert not (state.directory / "account.json").exists()
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
assert state.flush() and state.trouble is None
assert (state.directory / "account.json").exists()
"""


def test_a_full_disk_stops_nothing_and_is_made_good_later(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path], capture_output=True, text=True, check=False
    )

    assert run.returncode == 0, run.stderr


def test_an_unchanged_record_is_not_written_again(tmp_path: Path) -> None:
    state = state_in(tmp_path / "state")
    state.keep_servers(SERVERS)
    shutil.rmtree(tmp_path / "state")

    state.keep_servers(SERVERS)

    assert state.trouble is None
    state.keep_servers(LastGood())
    assert state.trouble is not None


@settings(deadline=None)
@given(endpoints)
def test_an_endpoint_reads_back_from_its_text(endpoint: Endpoint) -> None:
    assert parse_endpoint(str(endpoint)) == endpoint


@pytest.mark.parametrize("text", ["", "192.0.2.1", "2001:db8::1:443", "[::1]", "192.0.2.1:70000"])
def test_text_that_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_endpoint(text)


@settings(deadline=None)
@given(
    st.builds(
        LastGood,
        account_server=st.none() | st.text(),
        account_endpoints=st.lists(endpoints).map(tuple),
        coordinator=st.none() | st.text(),
        coordinator_endpoints=st.lists(endpoints).map(tuple),
        domain_key=st.none() | st.binary(),
    )
)
def test_a_record_reads_back_as_written(record: LastGood) -> None:
    assert decode(LastGood, encode(record)) == record


def test_a_record_from_a_newer_version_is_read_without_its_new_fields() -> None:
    newer = encode(ACCOUNT).replace(b"{", b'{"colour": "green",', 1)

    assert decode(SavedAccount, newer) == ACCOUNT


def test_the_trust_of_an_account_is_kept(tmp_path: Path) -> None:
    account = SavedAccount(
        user="alice", name="laptop", domain="ntm.example.org", trust=Trust(fingerprint="SHA256:00")
    )
    state_in(tmp_path).keep_account(account)

    assert state_in(tmp_path).account == account
