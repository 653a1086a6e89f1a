from ntmobile.servers.stun import BURST, StunResponder
from ntmobile.time import Instant
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.stun import BindingRequest, BindingResponse

ASKER = Endpoint("198.51.100.7", 50000)
REQUEST = BindingRequest(bytes(12))
T0 = Instant(0)


def test_a_stranger_is_told_its_address_where_it_asked_from() -> None:
    answer = StunResponder().respond(ASKER, REQUEST.encode(), T0)

    assert answer is not None
    assert answer.transmit.destination == ASKER
    assert BindingResponse.decode(answer.transmit.payload) == BindingResponse(bytes(12), ASKER)


def test_a_network_gets_no_more_than_its_burst() -> None:
    responder = StunResponder()

    answers = [responder.respond(ASKER, REQUEST.encode(), T0) for _ in range(BURST + 50)]

    assert sum(answer is not None for answer in answers) == BURST
    assert responder.counters == {"answered": BURST, "over_rate": 50}


def test_what_is_no_request_gets_nothing() -> None:
    responder = StunResponder()
    response = BindingResponse(bytes(12), ASKER).encode()

    assert responder.respond(ASKER, response, T0) is None
    assert responder.counters == {"malformed": 1}


def test_nobody_is_answered_at_port_0() -> None:
    responder = StunResponder()
    request = BindingRequest(bytes(12), response_port=0)

    assert responder.respond(ASKER, request.encode(), T0) is None
