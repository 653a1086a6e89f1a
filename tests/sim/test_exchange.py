from dataclasses import dataclass, field

import pytest

from ntmobile.sim.entropy import SeededEntropy
from ntmobile.sim.exchange import DNS, HTTPS, PATIENCE_NS, Client, Service
from ntmobile.sim.internet import ONE_WAY, Internet
from ntmobile.sim.packet import Transport
from ntmobile.sim.quality import Quality
from ntmobile.time import SECOND, Instant
from ntmobile.wire.endpoint import Endpoint


@pytest.mark.parametrize(("handshake", "cold"), [(HTTPS, 6), (DNS, 2)])
def test_a_new_connection_costs_its_handshake_and_a_kept_one_does_not(
    handshake: int, cold: int
) -> None:
    pair = Pair(handshake=handshake)

    assert pair.ask(b"one") == (b"answer to one", cold)
    assert pair.ask(b"two") == (b"answer to two", 2)


def test_a_server_that_restarted_refuses_the_old_connection_and_is_asked_anew() -> None:
    pair = Pair()
    pair.ask(b"one")

    pair.restart()

    assert pair.ask(b"two") == (b"answer to two", 2 + 6)


def test_nobody_there_means_no_answer_after_the_clients_patience() -> None:
    pair = Pair()
    pair.service.close()

    assert pair.ask(b"one") == (None, PATIENCE_NS / ONE_WAY.delay_ns)


def test_under_loss_and_duplication_each_request_is_served_exactly_once() -> None:
    pair = Pair(Quality(delay_ns=ONE_WAY.delay_ns, loss=0.2, duplication=0.2))

    answers = [pair.ask(b"%d" % number)[0] for number in range(50)]

    assert answers == [b"answer to %d" % number for number in range(50)]
    assert pair.served == [b"%d" % number for number in range(50)]


def test_a_client_that_died_is_called_back_no_more() -> None:
    pair = Pair()
    answers = list[bytes | None]()
    pair.client.ask(pair.server, b"one", answers.append)

    pair.client.close()
    pair.internet.calendar.run_to(Instant(60 * SECOND))

    assert answers == []


@dataclass
class Pair:
    """A client and a service of the core."""

    core: Quality = ONE_WAY
    handshake: int = HTTPS
    served: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.internet = Internet(1, self.core)
        host = self.internet.host("client")
        self._host = self.internet.host("server")
        place = self._host.source_for(4)
        assert place is not None
        self.server = Endpoint(place[1], 443)
        self.client = Client(
            host, self.internet.calendar, SeededEntropy(2), handshake=self.handshake
        )
        self.service = self._service()

    def restart(self) -> None:
        self.service.close()
        self.service = self._service()

    def ask(self, body: bytes) -> tuple[bytes | None, float]:
        """Return the answer, and the time it took in one-way delays."""
        answers, start = list[bytes | None](), self.internet.now
        self.client.ask(self.server, body, answers.append)
        self.internet.calendar.run_until(lambda: bool(answers), Instant(start + 60 * SECOND))
        return answers[0], (self.internet.now - start) / ONE_WAY.delay_ns

    def _service(self) -> Service:
        return Service(
            self._host, 443, self._serve, transport=Transport.TCP, handshake=self.handshake
        )

    def _serve(self, body: bytes, _source: Endpoint, answer: object) -> None:
        assert callable(answer)
        self.served.append(body)
        answer(b"answer to " + body)
