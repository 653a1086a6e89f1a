from hypothesis import given
from hypothesis import strategies as st

from ntmobile.proto.observation import observe
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.stun import ERROR, BindingRequest, BindingResponse

ASKER = Endpoint("198.51.100.7", 50000)
ID = bytes(12)


def test_whoever_asks_is_told_its_address_and_nothing_else() -> None:
    answer = observe(BindingRequest(ID), ASKER, other_port=4399)

    assert answer.transmit.destination == ASKER
    assert not answer.from_other_port
    assert BindingResponse.decode(answer.transmit.payload) == BindingResponse(ID, ASKER)


def test_whoever_asks_for_the_other_port_is_told() -> None:
    answer = observe(BindingRequest(ID, asks_other_port=True), ASKER, other_port=4399)

    assert BindingResponse.decode(answer.transmit.payload).other_port == 4399


def test_an_answer_leaves_from_the_other_port_where_there_is_one() -> None:
    request = BindingRequest(ID, asks_other_port=True, from_other_port=True)

    assert observe(request, ASKER, other_port=4399).from_other_port
    refused = observe(request, ASKER, other_port=None)
    assert not refused.from_other_port
    assert int.from_bytes(refused.transmit.payload[:2]) == ERROR


@given(st.builds(BindingRequest, st.just(ID), st.booleans(), st.booleans(), st.integers(1, 65535)))
def test_no_address_but_the_askers_is_ever_answered(request: BindingRequest) -> None:
    answer = observe(request, ASKER, other_port=4399)

    assert answer.transmit.destination == Endpoint(ASKER.host, request.response_port or 0)
    assert len(answer.transmit.payload) <= 2.2 * len(request.encode())
