import pytest

from ntmobile._core import CapsuleError, Capsules

AES, CHACHA = "aes-256-gcm", "chacha20-poly1305"
TO_BOB, TO_ALICE = bytes([1]) * 32, bytes([2]) * 32
ALICE_INDEX, BOB_INDEX = 7, 9


@pytest.mark.parametrize("cipher", [AES, CHACHA])
@pytest.mark.parametrize("control", [False, True])
def test_what_one_end_seals_the_other_opens(cipher: str, control: bool) -> None:
    alice, bob = ends(cipher)

    capsule = alice.seal(b"an inner packet", control=control)

    assert len(capsule) == len(b"an inner packet") + 32
    assert capsule[0] == 4
    assert b"inner" not in capsule
    assert bob.open(capsule) == (control, 0, b"an inner packet")


def test_the_header_is_laid_out_as_documented() -> None:
    alice, _ = ends()
    alice.seal(b"the first one takes counter 0")

    capsule = alice.seal(b"", control=True)

    flags = 0b100
    assert capsule[:16] == bytes([4, flags, 0, 0, 0, 0, 0, BOB_INDEX]) + bytes(7) + b"\1"


def test_a_capsule_opens_once() -> None:
    alice, bob = ends()
    capsule = alice.seal(b"once")
    bob.open(capsule)

    assert refusal(bob, capsule) == "replayed"


@pytest.mark.parametrize("position", range(33))
def test_a_changed_byte_anywhere_is_refused(position: int) -> None:
    alice, bob = ends()
    capsule = bytearray(alice.seal(b"x"))
    capsule[position] ^= 0x80

    assert refusal(bob, bytes(capsule)) in {"malformed", "stranger", "forged"}


def test_garbage_is_malformed() -> None:
    _, bob = ends()

    assert {refusal(bob, bytes([4]) * n) for n in (0, 1, 31)} == {"malformed"}


def test_a_capsule_of_another_tunnel_is_refused() -> None:
    alice, _ = ends()
    stranger = Capsules(BOB_INDEX + 1)

    assert refusal(stranger, alice.seal(b"")) == "stranger"


def test_a_counter_behind_the_window_is_too_old() -> None:
    alice, bob = ends()
    first = alice.seal(b"")
    capsules = [alice.seal(b"") for _ in range(8192)]

    bob.open(capsules[-1])

    assert refusal(bob, first) == "too_old"
    assert bob.open(capsules[0]) == (False, 0, b"")


def test_both_epochs_open_while_keys_change_and_retired_ones_do_not() -> None:
    alice, bob = ends()
    late = alice.seal(b"sealed before the change")
    later = alice.seal(b"sealed before, arrives after")
    rekey(alice, bob, epoch=1)

    fresh = alice.seal(b"after")

    assert bob.open(fresh) == (False, 1, b"after")
    assert bob.open(late) == (False, 0, b"sealed before the change")
    bob.retire(0)
    assert refusal(bob, later) == "unknown_epoch"


def test_nothing_is_sealed_before_an_epoch_is_active() -> None:
    alice = Capsules(ALICE_INDEX)
    alice.install(0, AES, TO_BOB, TO_ALICE, BOB_INDEX)

    with pytest.raises(CapsuleError, match="not_ready"):
        alice.seal(b"")
    with pytest.raises(CapsuleError, match="not_ready"):
        alice.activate(1)


def test_wrong_arguments_raise_at_once() -> None:
    alice = Capsules(ALICE_INDEX)

    with pytest.raises(ValueError, match="0 to 3"):
        alice.activate(4)
    with pytest.raises(ValueError, match="32 bytes"):
        alice.install(0, AES, b"short", TO_ALICE, BOB_INDEX)
    with pytest.raises(ValueError, match="cipher"):
        alice.install(0, "rot13", TO_BOB, TO_ALICE, BOB_INDEX)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="64968"):
        ends()[0].seal(bytes(64_969))


def test_what_was_lost_and_only_that_is_sent_again_unchanged() -> None:
    alice, bob = ends()
    capsules = [alice.seal(bytes([n])) for n in range(100)]
    lost = {3, 4, 50, 98, 99}
    for number, capsule in enumerate(capsules):
        if number not in lost:
            bob.open(capsule)

    again = alice.missing(received(bob))

    assert again == [capsules[n] for n in sorted(lost)]
    assert [bob.open(capsule)[2][0] for capsule in again] == sorted(lost)
    assert alice.missing(received(bob)) == []


def test_what_was_sealed_in_an_epoch_that_never_arrived_is_missing_as_a_whole() -> None:
    alice, bob = ends()
    bob.open(alice.seal(b"the peer has heard of epoch 0 only"))
    lost = alice.seal(b"lost")
    rekey(alice, bob, epoch=1)
    after = [alice.seal(bytes([n])) for n in range(3)]

    assert alice.missing(received(bob)) == [lost, *after]


def test_control_messages_are_not_sent_again() -> None:
    alice, bob = ends()
    bob.open(alice.seal(b"a"))
    alice.seal(b"lost", control=True)
    packet = alice.seal(b"b")

    assert alice.missing(received(bob)) == [packet]


def test_a_stream_without_gaps_is_told_in_one_byte() -> None:
    alice, bob = ends()
    assert bob.receive_state() is None
    for _ in range(10_000):
        bob.open(alice.seal(b""))

    assert bob.receive_state() == (0, 9_999, b"\xff")


def ends(cipher: str = AES) -> tuple[Capsules, Capsules]:
    alice, bob = Capsules(ALICE_INDEX), Capsules(BOB_INDEX)
    install(alice, bob, 0, cipher)
    alice.activate(0)
    bob.activate(0)
    return alice, bob


def rekey(alice: Capsules, bob: Capsules, *, epoch: int) -> None:
    install(alice, bob, epoch, AES)
    alice.activate(epoch)
    bob.activate(epoch)


def install(alice: Capsules, bob: Capsules, epoch: int, cipher: str) -> None:
    name = AES if cipher == AES else CHACHA
    to_bob, to_alice = bytes([epoch, *TO_BOB[1:]]), bytes([epoch, *TO_ALICE[1:]])
    alice.install(epoch, name, to_bob, to_alice, BOB_INDEX)  # type: ignore[arg-type]
    bob.install(epoch, name, to_alice, to_bob, ALICE_INDEX)  # type: ignore[arg-type]


def refusal(end: Capsules, capsule: bytes) -> str:
    with pytest.raises(CapsuleError) as caught:
        end.open(capsule)
    return str(caught.value)


def received(end: Capsules) -> tuple[int, int, bytes]:
    state = end.receive_state()
    assert state is not None
    return state
