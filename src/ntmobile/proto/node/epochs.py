"""The epochs of one tunnel: which keys are open, and in which this end sends.

Each handshake gives one of four epoch numbers; the end with the smaller FQDN proposes 0 and 2, the
other 1 and 3, so two handshakes at once never take the same. Two that one end begins at once may:
a Tunnel Request can be long under way. So who answers takes the proposed number only where nothing
stands that may be in use, and else names one of its own: keys that nobody proved to hold never take
the place of others. Where its own are that of the keys in use and that of a handshake under way,
the proposal counts after all: one number for two handshakes is worse.

This end sends in a new epoch once the peer is known to hold it. Of two epochs the younger wins;
when they were agreed within ten seconds of each other (glare: both ends began at once) the one with
the smaller handshake hash, so that both ends choose the same. One that the peer was never heard in
yields to any other: its handshake may have ended at this end only. An epoch that lost stays open
until the peer has been heard in the one that won, and ten seconds more.

The ends learn of an epoch at different moments, so at the edge of ten seconds one may see glare
where the other sees none: after a second the end with the larger FQDN follows the other's choice.

Ours: docs/protocol.md section 4.
"""

from collections import deque
from dataclasses import dataclass, replace

from ntmobile.keys.table import IDENTIFIER_SIZE, Keyring, Kmncn
from ntmobile.proto.io import Timeout
from ntmobile.proto.node.events import ActivateKeys, Command, InstallKeys, RetireKeys
from ntmobile.proto.node.handshake import Secrets, rekey_psk
from ntmobile.time import SECOND, Instant

GLARE_NS = 10 * SECOND
OVERLAP_NS = 10 * SECOND
"""How long an epoch still opens after the peer was heard in the next one."""
FOLLOW_NS = SECOND
"""Capsules of the epoch before are still under way so long after a change."""
RESERVED_NS = 10 * SECOND
"""How long a number that was proposed waits for its handshake."""
LIFETIME_NS = 24 * 3600 * SECOND
"""Of a tunnel that carries nothing: a busy one rekeys long before."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """One agreed Kmncn."""

    key: Kmncn
    secrets: Secrets
    remote_index: int
    born: Instant
    proven: bool
    """The peer is known to hold it: without that it outranks none that is."""
    retire_at: Instant | None = None

    def outranks(self, other: "Epoch") -> bool:
        """Whether to send in this one rather than in the other."""
        if self.proven is not other.proven:
            return self.proven
        if abs(self.born - other.born) < GLARE_NS:
            return self.secrets.hash < other.secrets.hash
        return self.born > other.born


class Epochs:
    """All epochs of one tunnel at this end."""

    def __init__(
        self, index: int, cipher: str, keyring: Keyring, commands: deque[Command], *, leads: bool
    ) -> None:
        """Puts its commands where the tunnel's other commands go; leads: the smaller FQDN."""
        self._index = index
        self._cipher = cipher
        self._keyring = keyring
        self._commands = commands
        self._leads = leads
        self._own = (0, 2) if leads else (1, 3)
        self._known: dict[int, Epoch] = {}
        self._sending: int | None = None
        self._activated_at: Instant | None = None
        self._proposed: tuple[int, Instant] | None = None

    @property
    def sending(self) -> int | None:
        """The number of the epoch this end sends in."""
        return self._sending

    @property
    def current(self) -> Epoch | None:
        """The epoch this end sends in."""
        return None if self._sending is None else self._known[self._sending]

    def get(self, number: int) -> Epoch | None:
        """Return the epoch of that number, while it is open."""
        return self._known.get(number)

    def is_reserved(self, now: Instant) -> bool:
        """Whether a number this end proposed still waits for its handshake."""
        return self._proposed is not None and now - self._proposed[1] < RESERVED_NS

    def propose(self, now: Instant) -> int:
        """Return the number for a handshake that this end begins; the best free one of its two."""
        number = self._best(now)
        self._proposed = (number, now)
        return number

    def accept(self, proposed: int, remote_index: int, now: Instant) -> int:
        """Return the number for a handshake that the peer begins: its proposal, or one of ours.

        A peer that started anew (another index) knows nothing of what stands here. Where ours are
        that of the keys in use and that of a handshake under way, the peer knows what it gives up.
        """
        known = self._known.values()
        started_anew = any(epoch.remote_index != remote_index for epoch in known)
        if started_anew or not self._stands(proposed):
            return proposed
        best = self._best(now)
        return proposed if self._is_waiting(best, now) and proposed != self._sending else best

    def is_proven(self, number: int) -> bool:
        """Whether keys stand at that number which the peer is known to hold."""
        return self._stands(number) and self._known[number].proven

    def learn(
        self, number: int, secrets: Secrets, remote_index: int, now: Instant, *, proven: bool
    ) -> None:
        """Keep a new epoch; proven says that the peer is known to hold it.

        The number of one that is not is what `accept` returned.
        """
        if any(epoch.remote_index != remote_index for epoch in self._known.values()):
            self.clear(now)
        if number in self._known:
            self._keyring.erase(self._known[number].key, now)
        if self._proposed is not None and self._proposed[0] == number:
            self._proposed = None
        key = self._keep(secrets, proven, now)
        self._known[number] = Epoch(key, secrets, remote_index, now, proven)
        self._commands.append(
            InstallKeys(
                self._index,
                number,
                self._cipher,
                secrets.send_key,
                secrets.receive_key,
                remote_index,
            )
        )
        current = self.current
        if current is None or number == self._sending or not current.proven:
            self._activate(number, now)
        elif proven:
            self._consider(number, now)

    def prove(self, number: int, now: Instant) -> None:
        """A capsule of this epoch opened: the peer holds it and sends in it."""
        if number not in self._known:
            return
        self._known[number] = replace(self._known[number], proven=True)
        self._consider(number, now)
        if number != self._sending and self._follows(number, now):
            self._activate(number, now)
        current = self.current
        if number != self._sending or current is None:
            return
        for other, epoch in self._known.items():
            waits = not epoch.proven and epoch.born > current.born
            if (
                other != number
                and epoch.retire_at is None
                and current.outranks(epoch)
                and not waits
            ):
                self._known[other] = replace(epoch, retire_at=Instant(now + OVERLAP_NS))

    def handle_timeout(self, now: Instant) -> None:
        """Forget the epochs that are over."""
        for number, epoch in list(self._known.items()):
            if epoch.retire_at is not None and now >= epoch.retire_at:
                self._retire(number, now)

    def poll_timeout(self) -> Timeout | None:
        """When handle_timeout wants to be called."""
        times = [epoch.retire_at for epoch in self._known.values() if epoch.retire_at is not None]
        return Timeout(min(times), "epoch over") if times else None

    def clear(self, now: Instant) -> None:
        """Forget all epochs: the peer started anew."""
        for number in list(self._known):
            self._retire(number, now)
        self._sending = None

    def erase(self, now: Instant) -> None:
        """Wipe all keys: the tunnel is over, and the packet loops forget theirs with it."""
        for epoch in self._known.values():
            self._keyring.erase(epoch.key, now)
        self._known.clear()
        self._sending = None

    def _best(self, now: Instant) -> int:
        return min(
            self._own,
            key=lambda n: (
                n == self._sending,
                self._is_waiting(n, now),
                self._stands(n),
                n in self._known,
            ),
        )

    def _is_waiting(self, number: int, now: Instant) -> bool:
        """Whether it was proposed, and the handshake is under way."""
        return self._proposed is not None and self._proposed[0] == number and self.is_reserved(now)

    def _stands(self, number: int) -> bool:
        """Whether keys of that number may be in use now or later."""
        held = self._known.get(number)
        return held is not None and held.retire_at is None

    def _keep(self, secrets: Secrets, created: bool, now: Instant) -> Kmncn:
        """Kmncn under its Table 1 name; its creator is who sent the Tunnel Request."""
        expires = Instant(now + LIFETIME_NS)
        key = Kmncn(rekey_psk(secrets), secrets.hash[:IDENTIFIER_SIZE], expires)
        if created:
            self._keyring.create(key, now)
        return self._keyring.own(key, now)

    def _consider(self, number: int, now: Instant) -> None:
        current = self.current
        if number != self._sending and (current is None or self._known[number].outranks(current)):
            self._activate(number, now)

    def _follows(self, number: int, now: Instant) -> bool:
        """Whether the peer, speaking in this epoch, knows better than this end."""
        at, current, heard = self._activated_at, self.current, self._known[number]
        if self._leads or at is None or current is None or now - at < FOLLOW_NS:
            return False
        # What was lost in a move is sent again as it was, in an epoch that is over.
        return heard.retire_at is None or heard.born > current.born

    def _activate(self, number: int, now: Instant) -> None:
        if number != self._sending:
            self._activated_at = now
        self._sending = number
        self._known[number] = replace(self._known[number], retire_at=None)
        self._commands.append(ActivateKeys(self._index, number))

    def _retire(self, number: int, now: Instant) -> None:
        self._keyring.erase(self._known.pop(number).key, now)
        self._commands.append(RetireKeys(self._index, number))
