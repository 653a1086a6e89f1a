from hypothesis import given
from hypothesis import strategies as st

from ntmobile.agent.netlink import NESTED, attribute, attributes

payloads = st.dictionaries(st.integers(0, 0x3FFF), st.binary(max_size=20), max_size=6)


@given(payloads)
def test_what_is_written_is_read(payload: dict[int, bytes]) -> None:
    written = b"".join(attribute(kind, data) for kind, data in payload.items())

    assert len(written) % 4 == 0
    assert attributes(written) == payload


@given(payloads)
def test_nested_attributes_are_read_as_one_payload(payload: dict[int, bytes]) -> None:
    inner = b"".join(attribute(kind, data) for kind, data in payload.items())

    assert attributes(attributes(attribute(7 | NESTED, inner))[7]) == payload


@given(st.binary(max_size=200))
def test_garbage_is_never_an_error(data: bytes) -> None:
    attributes(data)
