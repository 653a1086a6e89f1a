"""Ours: docs/protocol.md section 10."""

import hypothesis.strategies as st
from hypothesis import given
from tests.proto.parts import HERE, THERE

from ntmobile.proto.relay.memory import (
    RECORD,
    ForgottenKey,
    ForgottenPath,
    Record,
    StoredEnd,
    StoredKey,
    StoredPath,
    standing,
)
from ntmobile.wire.direction import RelayDirection, Role
from ntmobile.wire.federation import KeySharing, SharedKey
from ntmobile.wire.message import decode, encode


def a_key(name: int, lifetime_s: int = 60) -> StoredKey:
    sharing = KeySharing(
        SharedKey.KDCRS, bytes((name,)) * 8, bytes(32), lifetime_s, "ntm.example.org"
    )
    return StoredKey(sharing)


def a_path(name: int, index: int = 11) -> StoredPath:
    direction = RelayDirection(bytes(16), bytes((name,)) * 8, bytes(32), 300, 0, bytes(16))
    ends = StoredEnd(Role.MN, HERE, index, 3), StoredEnd(Role.CN, THERE, 22, 4)
    return StoredPath(direction, ends)


names = st.integers(0, 3)
records = st.lists(
    st.one_of(
        st.builds(a_key, names, st.integers(1, 99)),
        st.builds(a_path, names.map(lambda n: n + 10), st.integers(1, 99)),
        names.map(lambda n: ForgottenKey(bytes((n,)) * 8)),
        names.map(lambda n: ForgottenPath(bytes((n + 10,)) * 8)),
    ),
    max_size=30,
)


@given(records)
def test_of_each_key_and_path_the_last_word_stands(history: list[Record]) -> None:
    last = {record.name: record for record in history}

    held = standing(history)

    assert {record.name: record for record in held} == {
        name: record for name, record in last.items() if isinstance(record, StoredKey | StoredPath)
    }
    assert len(held) == len({record.name for record in held})


@given(records)
def test_what_stands_stands_after_any_number_of_restarts(history: list[Record]) -> None:
    assert standing(standing(history)) == standing(history)


@given(records)
def test_every_record_survives_its_bytes(history: list[Record]) -> None:
    assert [decode(RECORD, encode(record)) for record in history] == history
