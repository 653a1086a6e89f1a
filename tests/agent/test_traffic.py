from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from ntmobile._core import Engine
from ntmobile.agent.traffic import DataTraffic
from ntmobile.time import Instant

NOW = Instant(10**12)


@pytest.fixture
def engine() -> Iterator[Engine]:
    """An engine with a tunnel that is up, to nobody."""
    with ExitStack() as stack:
        engine = Engine()
        stack.callback(engine.close)
        engine.open_tunnel(
            1,
            own_ipv4=bytes(4),
            own_ipv6=bytes(16),
            peer_ipv4=b"\x64\x40\0\1",
            peer_ipv6=b"\xfd" * 16,
        )
        engine.install_keys(1, 0, "aes-256-gcm", bytes(32), bytes(32), 2)
        engine.activate_keys(1, 0)
        engine.set_path(1, bytes((127, 0, 0, 1)), 9, mtu=1280)
        yield engine


def test_control_messages_are_no_traffic(engine: Engine) -> None:
    traffic = DataTraffic()
    for _ in range(3):
        engine.send_control(1, b"keep alive")
        traffic.sent_control(len(b"keep alive"))

    seen = traffic.observe(engine.statistics(1), NOW)

    assert (seen.tx_bytes, seen.last_tx) == (0, None)
    assert engine.statistics(1).tx_bytes == 30


def test_what_was_not_control_is_data_and_has_a_time(engine: Engine) -> None:
    traffic = DataTraffic()
    engine.send_control(1, b"stands for data")

    seen = traffic.observe(engine.statistics(1), NOW)

    assert seen.tx_bytes == len(b"stands for data")
    assert seen.last_tx is not None
    assert 0 <= NOW - seen.last_tx < 10**10


def test_control_after_data_does_not_make_the_data_newer(engine: Engine) -> None:
    traffic = DataTraffic()
    engine.send_control(1, b"stands for data")
    first = traffic.observe(engine.statistics(1), NOW)
    engine.send_control(1, b"keep alive")
    traffic.sent_control(len(b"keep alive"))

    later = traffic.observe(engine.statistics(1), Instant(NOW + 10**10))

    assert later.last_tx == first.last_tx


def test_a_control_message_that_came_is_not_received_data(engine: Engine) -> None:
    traffic = DataTraffic()
    traffic.heard_control(12)

    assert traffic.observe(engine.statistics(1), NOW).rx_bytes == 0
