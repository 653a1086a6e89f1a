from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntmobile.proto.node.finding import ANY, FIRST_PORT, PORTS, filtering_of, mapping_of, ports_of
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.nat import Behaviour, PortAssignment

EI, AD, APD = Behaviour
HOSTS = ("192.0.2.1", "192.0.2.2")
SERVERS = [Endpoint(host, port) for host, port in product(HOSTS, (1, 2))]
MAPPED = st.builds(Endpoint, st.just("203.0.113.7"), st.integers(1, 4))


@given(
    st.sampled_from(Behaviour),
    st.lists(st.sampled_from(SERVERS), unique=True),
    st.integers(0, 1000),
)
def test_what_a_nat_is_is_never_excluded(
    mapping: Behaviour, asked: list[Endpoint], start: int
) -> None:
    given: dict[object, int] = {}
    seen = {
        server: Endpoint(
            "203.0.113.7", 1024 + start + given.setdefault(mapping.view(server), len(given))
        )
        for server in asked
    }

    assert mapping in mapping_of(seen)
    if len(asked) == len(SERVERS):
        assert mapping_of(seen) == {mapping}


@given(st.dictionaries(st.sampled_from(SERVERS), MAPPED))
def test_whatever_is_seen_something_is_left(seen: dict[Endpoint, Endpoint]) -> None:
    assert mapping_of(seen)


@pytest.mark.parametrize(
    ("address", "port", "left"),
    [
        (True, True, {EI}),
        (True, False, {EI}),
        (False, True, {AD}),
        (False, False, {APD}),
        (None, None, ANY),
        (None, True, {EI, AD}),
        (None, False, {APD}),
        (True, None, {EI}),
        (False, None, {AD, APD}),
    ],
)
def test_each_outcome_of_the_two_tests_leaves_these(
    address: bool | None, port: bool | None, left: set[Behaviour]
) -> None:
    assert filtering_of(address=address, port=port) == left


@pytest.mark.parametrize(
    ("given", "assignment"),
    [
        ([], None),
        ([(50000, 50000)] * 2, None),
        ([(50000, 50000), (50097, 50097), (50194, 50194)], PortAssignment.PRESERVING),
        ([(50000, 1024), (50097, 1025), (50194, 1030)], PortAssignment.SEQUENTIAL),
        ([(50000, 65534), (50097, 65535), (50194, 1024)], PortAssignment.SEQUENTIAL),
        ([(50000, 1030), (50097, 1025), (50194, 1024)], PortAssignment.RANDOM),
        ([(50000, 1024), (50097, 1024), (50194, 1024)], PortAssignment.RANDOM),
    ],
)
def test_ports_tell_how_they_are_picked(
    given: list[tuple[int, int]], assignment: PortAssignment | None
) -> None:
    assert ports_of(given) is assignment


@given(st.integers(0, PORTS - 1), st.lists(st.integers(1, 16), min_size=2, max_size=6))
def test_sequential_ports_are_known_wherever_they_start(start: int, steps: list[int]) -> None:
    outer = [start]
    for step in steps:
        outer.append((outer[-1] + step) % PORTS)

    assert ports_of([(1, FIRST_PORT + port) for port in outer]) is PortAssignment.SEQUENTIAL
