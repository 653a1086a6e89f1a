"""When a mover's data leave, and its peer is told, while RS has no proof of the new address.

RS would drop data that come before it was shown the address, and what comes after the proof would
overtake what is sent again. So they stay in the log until RS leads the node in, and leave behind
the proof.

The peer is told before that, when RS leads the node in, but so late that the peer's answer, and
what it sends again, find the proof at RS: before it RS sends nothing to the new address. What the
peer itself misses is asked a little sooner: that answer is small, and comes again if it is lost.

    mover             RS                  peer
      |--Hole Punching->|                   |      d
      |--Path Challenge--------------------->|     d + e, that much after the Hole Punching
      |--Path Update------------------------>|
      |<-----Challenge--|<---answer---------|      2d;  d + 2e
      |--proof--------->|<---answer, data---|      3d;  d + 2e

A peer that moves too is where RS has no proof yet, and hears none of that. So a few copies follow
the proof: the first that comes to RS behind the peer's own proof gets through.

Ours: docs/protocol.md section 8.
"""

from ntmobile.proto.io import Timeout
from ntmobile.time import Instant

LEAD_NS = 4_000_000
"""What RS takes to lead a mover in, on a busy day."""
MARGIN_NS = 8_000_000
"""By how much the answer is to come later to RS than the proof: both pass busy machines."""
LATE_NS = 50_000_000
"""An answer that is late by so much was lost."""
EARLY_COPY_NS = 8_000_000
"""A copy of an early Path Update follows it so much later: a router that first looks for its
neighbour sends on at once all that waits for that, and RS leads in nobody so fast."""
COPIES = 5
"""Of what the peer was told, evenly in the time that RS took to ask for the proof, as it takes a
peer that moves a little later to be led in itself; they are LEAD_NS apart at least."""


class Holding:
    """What one tunnel's path holds back, and when its peer is told of it."""

    def __init__(self) -> None:
        """Nothing."""
        self.holds = False
        """Data wait."""
        self._let_go_at: Instant | None = None
        self._shown_at: Instant | None = None
        self._ask_at: Instant | None = None
        self._tell_at: Instant | None = None
        self._told_at: Instant | None = None
        self._copy_at: Instant | None = None
        self._copies = 0
        self._copy_ns = LEAD_NS
        self._relay_ns: int | None = None
        """The round trip to RS in the network before."""
        self._first_ns: int | None = None
        """How long RS took to ask for the first proof, if it did."""

    def learn(self, relay_ns: int | None) -> None:
        """The tunnel was set up, and RS took so long to ask for the first proof, if it did."""
        self._first_ns = relay_ns

    def begin(self, *, hold: bool) -> None:
        """There is another path; does it hold data?"""
        self.holds, self._let_go_at = hold, None
        self._shown_at = self._tell_at = self._told_at = self._copy_at = self._ask_at = None

    def plan(self, rtt_ns: int | None, now: Instant) -> None:
        """RS is being shown the new address: when is the peer to be told?"""
        self._shown_at = now
        # RS may have heard of the tunnel long after the first Hole Punching.
        if self._relay_ns is None and (self._first_ns or 0) <= (rtt_ns or 0):
            self._relay_ns = self._first_ns
        relay_ns, beyond_ns = self._ways(rtt_ns or 0)
        self._ask_at = Instant(now + LEAD_NS)
        self._tell_at = Instant(now + max(LEAD_NS, MARGIN_NS + relay_ns - beyond_ns))

    def asks(self, now: Instant) -> bool:
        """Whether it is time to ask what the peer misses; it is asked then."""
        if self._ask_at is None or now < self._ask_at:
            return False
        self._ask_at = None
        return self._tell_at is not None and now < self._tell_at

    def tells(self, now: Instant) -> bool:
        """Whether it is time to tell the peer; it is told then."""
        if self._tell_at is None or now < self._tell_at:
            return False
        self._tell_at, self._told_at, self._ask_at = None, now, None
        # RS may have got this together with the Hole Punching, and so too soon.
        self._copies, self._copy_at = 1, Instant(now + EARLY_COPY_NS)
        return True

    def let_go(self) -> bool:
        """Data wait no longer; whether they did."""
        held, self.holds, self._let_go_at = self.holds, False, None
        return held

    def prove(self, rtt_ns: int | None, now: Instant) -> bool:
        """The proof leaves now; data may follow it. Whether what was told stands.

        Else the answer to that comes to RS before the proof, and all is to be told anew.
        """
        stands = self._stands(rtt_ns, now)
        if self._shown_at is not None:
            self._relay_ns = now - self._shown_at
        self._copies, self._copy_ns = COPIES, max(LEAD_NS, (self._relay_ns or 0) // COPIES)
        self._copy_at = Instant(now + self._copy_ns)
        self._tell_at, self._let_go_at = None, now
        if not stands:
            self._told_at = now
        return stands

    def repeats(self, now: Instant) -> bool:
        """Whether it is time for one more copy of what the peer was told."""
        if self._copy_at is None or now < self._copy_at:
            return False
        self._copies -= 1
        self._copy_at = Instant(now + self._copy_ns) if self._copies else None
        return True

    def expects_answer(self, rtt_ns: int | None, now: Instant) -> bool:
        """Whether the answer to what the peer was told comes through, now that RS acknowledges.

        RS had the proof before the answer could get there, or asked for none: the address is the
        one it knew. If it does not come after all, the peer is told again.
        """
        if self._told_at is None or now - self._told_at > (rtt_ns or 0):
            self._tell_at = None
            return False
        self._tell_at = Instant(self._told_at + (rtt_ns or 0) + LATE_NS)
        return True

    def hear_answer(self) -> None:
        """The peer knows."""
        self._tell_at = self._copy_at = None

    def is_over(self, now: Instant) -> bool:
        """Whether it is time to let go."""
        return self._let_go_at is not None and now >= self._let_go_at

    def poll_timeout(self) -> Timeout | None:
        """When data need wait no longer, or the peer is to be told."""
        times = self._let_go_at, self._ask_at, self._tell_at, self._copy_at
        due = [at for at in times if at is not None]
        return Timeout(min(due), "a mover's data, or its Path Update") if due else None

    def _stands(self, rtt_ns: int | None, now: Instant) -> bool:
        """Whether the peer's answer to what it was told will find the proof that leaves now."""
        if self._told_at is None or rtt_ns is None:
            return False
        _, beyond_ns = self._ways(rtt_ns)
        return self._told_at + beyond_ns >= now

    def _ways(self, rtt_ns: int) -> tuple[int, int]:
        """Round trips to RS, in the network before, and from there to the peer."""
        relay_ns = rtt_ns // 2 if self._relay_ns is None else min(self._relay_ns, rtt_ns)
        return relay_ns, rtt_ns - relay_ns
