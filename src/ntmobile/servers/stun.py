"""Answers STUN Binding on the servers' UDP ports. Ours: docs/protocol.md section 3."""

from collections import Counter

from ntmobile.errors import DecodeError
from ntmobile.proto.observation import Observation, observe
from ntmobile.proto.rate import RateLimit, Verdict
from ntmobile.time import Instant
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.stun import BindingRequest

RATE = 50
"""Answers a second to one network; an answer is at most 2.2 times its question."""
BURST = 200


class StunResponder:
    """Tells strangers their address, within a rate for each source network."""

    def __init__(self) -> None:
        """Has answered nobody."""
        self._rate = RateLimit(RATE, BURST)
        self.counters: Counter[str] = Counter()

    def respond(
        self, source: Endpoint, data: bytes, now: Instant, *, other_port: int | None = None
    ) -> Observation | None:
        """Return the answer to a STUN datagram, None for what gets none."""
        try:
            request = BindingRequest.decode(data)
        except DecodeError:
            self.counters["malformed"] += 1
            return None
        if request.response_port == 0:
            self.counters["malformed"] += 1
            return None
        if self._rate.judge(source.host, now) is not Verdict.SEND:
            self.counters["over_rate"] += 1
            return None
        self.counters["answered"] += 1
        return observe(request, source, other_port)
