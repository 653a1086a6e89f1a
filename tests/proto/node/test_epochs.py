"""Ours: docs/protocol.md section 4."""

from collections import deque

import hypothesis.strategies as st
import pytest
from hypothesis import given
from tests.proto.parts import T0, after, drain

from ntmobile.keys.table import KeyAct, Keyring, Party
from ntmobile.proto.node.epochs import GLARE_NS, OVERLAP_NS, RESERVED_NS, Epochs
from ntmobile.proto.node.events import ActivateKeys, Command, InstallKeys, RetireKeys
from ntmobile.proto.node.handshake import Secrets
from ntmobile.time import Instant

PEER = 22


class Rig:
    """The epochs of one end, and what they told the packet loops."""

    def __init__(self, *, leads: bool = True) -> None:
        self.commands: deque[Command] = deque()
        self.keyring = Keyring(Party.NODE)
        self.epochs = Epochs(11, "aes-256-gcm", self.keyring, self.commands, leads=leads)

    def learn(
        self, number: int, now: Instant, *, rank: int = 5, proven: bool = True, index: int = PEER
    ) -> None:
        """Rank 0 is the smallest handshake hash."""
        secrets = Secrets(bytes(32), bytes((1,)) * 32, bytes((rank, number)) * 16)
        self.epochs.learn(number, secrets, index, now, proven=proven)

    def open(self) -> set[int]:
        return {number for number in range(4) if self.epochs.get(number) is not None}


def test_the_first_epoch_is_sent_in_at_once() -> None:
    rig = Rig()

    rig.learn(0, T0, proven=False)

    assert rig.epochs.sending == 0
    assert [type(command) for command in rig.commands] == [InstallKeys, ActivateKeys]


def test_a_later_one_waits_for_its_proof() -> None:
    rig = Rig()
    rig.learn(0, T0)

    rig.learn(2, after(T0, 60), proven=False)
    assert rig.epochs.sending == 0
    rig.epochs.prove(2, after(T0, 61))

    assert rig.epochs.sending == 2


@pytest.mark.parametrize(("rank", "chosen"), [(4, 2), (6, 0)])
def test_of_two_agreed_within_ten_seconds_the_smaller_hash_wins(rank: int, chosen: int) -> None:
    rig = Rig()
    rig.learn(0, T0)

    rig.learn(2, Instant(T0 + GLARE_NS - 1), rank=rank)

    assert rig.epochs.sending == chosen


@pytest.mark.parametrize("rank", [4, 6])
def test_of_two_agreed_further_apart_the_younger_wins(rank: int) -> None:
    rig = Rig()
    rig.learn(0, T0)

    rig.learn(2, Instant(T0 + GLARE_NS), rank=rank)

    assert rig.epochs.sending == 2


def test_a_straggler_in_the_epoch_before_does_not_bring_it_back() -> None:
    rig = Rig()
    rig.learn(0, T0)
    rig.learn(2, after(T0, 60))

    rig.epochs.prove(0, after(T0, 60.1))

    assert rig.epochs.sending == 2


def test_the_one_before_opens_until_ten_seconds_after_the_peer_left_it() -> None:
    rig = Rig()
    rig.learn(0, T0)
    rig.learn(2, after(T0, 60))
    rig.epochs.handle_timeout(after(T0, 3600))
    assert rig.open() == {0, 2}, "the peer may still be sending in it"

    rig.epochs.prove(2, after(T0, 3600))
    due = rig.epochs.poll_timeout()

    assert due is not None
    assert due.at == after(T0, 3600) + OVERLAP_NS
    rig.epochs.handle_timeout(due.at)
    assert rig.open() == {2}
    assert rig.commands[-1] == RetireKeys(11, 0)
    assert len(rig.keyring) == 1


def test_an_epoch_whose_handshake_ended_at_this_end_only_yields_to_the_next() -> None:
    rig = Rig()
    rig.learn(0, T0, proven=False, rank=1)

    rig.learn(2, after(T0, 1), rank=6)

    assert rig.epochs.sending == 2, "whatever the hashes: the peer never held the other"


def test_an_epoch_that_waits_for_its_proof_is_not_closed_by_capsules_of_the_one_before() -> None:
    rig = Rig()
    rig.learn(0, T0)
    rig.learn(2, after(T0, 60), proven=False)

    rig.epochs.prove(0, after(T0, 61))
    rig.epochs.handle_timeout(after(T0, 100))

    assert rig.open() == {0, 2}


def test_a_peer_with_another_index_started_anew_and_all_before_is_forgotten() -> None:
    rig = Rig()
    rig.learn(0, T0)
    rig.learn(2, after(T0, 60))

    rig.learn(1, after(T0, 61), proven=False, index=33)

    assert (rig.open(), rig.epochs.sending) == ({1}, 1)
    assert len(rig.keyring) == 1


def test_one_number_twice_erases_the_keys_it_had() -> None:
    rig = Rig()
    rig.learn(0, T0)
    rig.learn(0, after(T0, 1), rank=9)

    acts = [record.act for record in drain(rig.keyring.poll_record)]
    assert acts.count(KeyAct.ERASED) == 1
    assert len(rig.keyring) == 1


@pytest.mark.parametrize(("leads", "numbers"), [(True, {0, 2}), (False, {1, 3})])
def test_the_two_ends_never_propose_the_same_number(leads: bool, numbers: set[int]) -> None:
    rig = Rig(leads=leads)

    assert {rig.epochs.propose(T0), rig.epochs.propose(T0)} == numbers


def test_two_handshakes_at_once_get_different_numbers_and_neither_is_the_one_in_use() -> None:
    rig = Rig()
    rig.learn(1, T0)

    first, second = rig.epochs.propose(T0), rig.epochs.propose(T0)
    assert first != second

    rig.learn(first, after(T0, 60))
    assert rig.epochs.propose(after(T0, 60)) != first


def test_a_number_is_reserved_until_its_handshake_ends_or_is_long_overdue() -> None:
    rig = Rig()
    number = rig.epochs.propose(T0)

    assert rig.epochs.is_reserved(T0)
    assert not rig.epochs.is_reserved(Instant(T0 + RESERVED_NS))
    rig.learn(number, after(T0, 1))
    assert not rig.epochs.is_reserved(after(T0, 1))


def test_the_peer_gets_the_number_that_it_proposes_where_nothing_stands_there() -> None:
    rig = Rig()
    rig.learn(0, T0)

    assert rig.epochs.accept(3, PEER, T0) == 3


@pytest.mark.parametrize("proven", [True, False])
def test_where_keys_stand_the_peer_gets_one_of_our_own_numbers_that_is_free(proven: bool) -> None:
    rig = Rig()
    rig.learn(0, T0)
    rig.learn(3, after(T0, 60), proven=proven)

    assert rig.epochs.accept(3, PEER, after(T0, 61)) == 2


@pytest.mark.parametrize("under_way", [True, False])
def test_a_number_of_a_handshake_under_way_is_given_to_no_other(under_way: bool) -> None:
    """Both would end with it, and the two ends with different keys: neither heard the other."""
    rig = Rig()
    rig.learn(0, T0)
    rig.learn(1, after(T0, 1), rank=6)
    if under_way:
        assert rig.epochs.propose(after(T0, 2)) == 2

    assert rig.epochs.accept(1, PEER, after(T0, 2)) == (1 if under_way else 2)


def test_a_number_whose_epoch_is_over_and_open_for_stragglers_only_is_given_again() -> None:
    """The negative twin."""
    rig = Rig()
    rig.learn(3, T0)
    rig.learn(1, after(T0, 60))
    rig.epochs.prove(1, after(T0, 61))

    assert rig.epochs.accept(3, PEER, after(T0, 62)) == 3


def test_a_peer_that_started_anew_gets_the_number_that_it_proposes() -> None:
    rig = Rig()
    rig.learn(1, T0)

    assert rig.epochs.accept(1, 33, T0) == 1


def test_what_is_not_known_proves_nothing() -> None:
    rig = Rig()
    rig.learn(0, T0)
    before = list(rig.commands)

    rig.epochs.prove(3, T0)

    assert list(rig.commands) == before


def test_at_the_end_every_key_is_wiped() -> None:
    rig = Rig()
    rig.learn(0, T0)
    rig.learn(2, after(T0, 60))
    held = list(rig.keyring)

    rig.epochs.erase(after(T0, 61))

    assert all(key.erased for key in held)
    assert rig.epochs.current is None


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.integers(0, 9),
            st.booleans(),
            st.sampled_from((0, 1, 9, 11, 60)),
            st.sampled_from(("learn", "prove", "wait")),
        ),
        max_size=25,
    )
)
def test_whatever_happens_the_packet_loops_can_do_what_they_are_told(
    history: list[tuple[int, int, bool, int, str]],
) -> None:
    rig, now = Rig(), T0
    loops: set[int] = set()
    for number, rank, proven, wait, act in history:
        now = after(now, wait)
        match act:
            case "learn":
                held = rig.epochs.current
                if not proven:
                    number = rig.epochs.accept(number, PEER, now)
                rig.learn(number, now, rank=rank, proven=proven)
                if not proven and held is not None and held.proven:
                    assert rig.epochs.current is held, "nobody proved to hold the new keys"
            case "prove":
                rig.epochs.prove(number, now)
            case "wait":
                rig.epochs.handle_timeout(now)
                due = rig.epochs.poll_timeout()
                assert due is None or due.at > now
        for command in drain(lambda: rig.commands.popleft() if rig.commands else None):
            match command:
                case InstallKeys(_, epoch):
                    loops.add(epoch)
                case ActivateKeys(_, epoch):
                    assert epoch in loops
                case RetireKeys(_, epoch):
                    assert epoch in loops
                    assert epoch != rig.epochs.sending
                    loops.remove(epoch)
        assert loops == rig.open()
        assert len(rig.keyring) == len(loops)
        assert rig.epochs.sending is None or rig.epochs.sending in loops


@pytest.mark.parametrize(("leads", "chosen"), [(False, 2), (True, 0)])
def test_where_only_one_end_sees_glare_the_larger_name_follows_the_other(
    leads: bool, chosen: int
) -> None:
    rig = Rig(leads=leads)
    rig.learn(0, T0)
    rig.learn(2, Instant(T0 + GLARE_NS - 1), rank=6, proven=False)

    rig.epochs.prove(2, after(T0, 10))

    assert rig.epochs.sending == chosen


def test_nobody_follows_into_an_epoch_that_is_over() -> None:
    rig = Rig(leads=False)
    rig.learn(0, T0)
    rig.learn(2, after(T0, 60))
    rig.epochs.prove(2, after(T0, 60.1))

    rig.epochs.prove(0, after(T0, 62))

    assert rig.epochs.sending == 2
    rig.epochs.handle_timeout(after(T0, 71))
    assert rig.open() == {2}
