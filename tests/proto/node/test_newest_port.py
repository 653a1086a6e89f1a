from random import Random

import pytest
from tests.proto.parts import T0, drain

from ntmobile.proto.node.newest_port import NewestPort
from ntmobile.time import SECOND, Instant
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.stun import BindingRequest, BindingResponse

SERVER, MAPPED = Endpoint("192.0.2.1", 4330), Endpoint("203.0.113.7", 38317)
SOON = Instant(T0 + SECOND // 100)


def asked() -> tuple[NewestPort, BindingRequest]:
    machine = NewestPort(SERVER, Random(1))
    machine.start(T0)
    [sending] = drain(machine.poll_sending)
    assert (sending.socket, sending.transmit.destination) == (0, SERVER)
    return machine, BindingRequest.decode(sending.transmit.payload)


def test_the_answer_tells_the_port() -> None:
    machine, request = asked()
    assert machine.poll_finding() is None

    machine.handle_datagram(0, BindingResponse(request.transaction, MAPPED).encode(), SOON)

    assert machine.poll_finding() == MAPPED.port


@pytest.mark.parametrize("data", [b"", b"garbage", BindingResponse(bytes(12), MAPPED).encode()])
def test_what_answers_nothing_tells_nothing(data: bytes) -> None:
    machine, _ = asked()

    machine.handle_datagram(0, data, SOON)

    assert machine.poll_finding() is None


def test_silence_ends_after_some_tries() -> None:
    machine, _ = asked()
    tries = 1
    while machine.poll_finding() is None:
        due = machine.poll_timeout()
        assert due is not None
        machine.handle_timeout(due.at)
        tries += len(drain(machine.poll_sending))

    assert machine.poll_finding() == 0
    assert 2 <= tries <= 8
