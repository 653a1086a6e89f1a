"""One tunnel's handovers: the one under way, and the last that is over.

A move of this node begins when its addresses change. Any other handover is noticed: the path dies,
the peer is elsewhere. It is over when the path after it has carried both ways, and it began when
the path before it was last heard, if that silence was noticed, else when it was noticed itself.

Ours: docs/protocol.md section 8.
"""

from dataclasses import dataclass, replace

from ntmobile.proto.node.causes import Cause
from ntmobile.proto.node.ends import Path
from ntmobile.proto.node.events import HandoverDone, LocalAddress
from ntmobile.proto.node.uplinks import cause_of
from ntmobile.time import Instant
from ntmobile.wire.endpoint import Endpoint

_VAGUE = (Cause.PATH_DIED, Cause.NAT_REBOOTED)


@dataclass(frozen=True, slots=True)
class _Noticed:
    """A handover that is not a move of this node."""

    cause: Cause
    at: Instant
    silent_since: Instant | None
    """When the path before was last heard, where that had been noticed."""
    before: Path | None


class Moving:
    """Notes when a handover began, why and where from, until it is over."""

    def __init__(self, fqdn: str) -> None:
        """Nothing is under way."""
        self._fqdn = fqdn
        self.since: Instant | None = None
        """When this node's own move began that is not over."""
        self.last: HandoverDone | None = None
        self._before: Path | None = None
        self._cause = Cause.NEW_NETWORK
        self._addresses: tuple[LocalAddress, ...] = ()
        self._held = 0
        self._bare = False
        self._noticed: _Noticed | None = None
        self._silent_since: Instant | None = None

    def shift(
        self, before: tuple[LocalAddress, ...], local: tuple[LocalAddress, ...], held: int
    ) -> None:
        """This node's addresses change; held is the interface that carries without preference."""
        if self.since is None:
            self._addresses, self._held, self._bare = before, held, False
        self._bare = self._bare or not local
        self._cause = cause_of(self._addresses, local, self._held, bare=self._bare)

    def change(self, cause: Cause) -> None:
        """This node moves, and not because of its addresses."""
        self._cause = cause

    def begin(self, path: Path | None, now: Instant) -> None:
        """This node moves while this is the path; within a move nothing is new."""
        if self.since is None:
            self.since, self._before = now, path
        self._noticed = None

    def finish(self, path: Path | None, now: Instant) -> list[HandoverDone]:
        """Return the move if one is over: the peer has answered by this path."""
        if self.since is None or path is None:
            return []
        done = self._done(self._cause, self._before, path, self.since, now)
        self.since = self._before = None
        return done

    def look(self, path: Path | None, heard: Instant, *, proven: bool) -> list[HandoverDone]:
        """The path carries, or has been silent since; returns what was noticed if it carries on."""
        noticed = self._noticed
        self._silent_since = None if proven else heard
        if noticed is None or path is None or not proven or heard <= noticed.at:
            return []
        self._noticed = None
        since = heard if noticed.silent_since is None else noticed.silent_since
        return self._done(noticed.cause, noticed.before, path, since, heard)

    def notice(self, cause: Cause, path: Path | None, now: Instant) -> None:
        """A handover begins that is no move of this node; what was noticed first counts.

        But of a dead path the reason may be known later, and why a capsule came from elsewhere.
        """
        first = self._noticed
        if self.since is not None:
            return
        if first is None:
            self._noticed = _Noticed(cause, now, self._silent_since, path)
        elif first.cause in _VAGUE and cause is not Cause.PATH_DIED:
            self._noticed = replace(first, cause=cause)

    def hear_elsewhere(self, path: Path | None, now: Instant, *, relayed: bool) -> None:
        """A capsule came from elsewhere than the path, by RS or not, and the tunnel goes there.

        Between two RS both ends settle on one: nobody moved.
        """
        if not relayed:
            self.notice(Cause.NAT_REBOOTED, path, now)

    def hear_update(self, path: Path | None, source: Endpoint, now: Instant) -> None:
        """The peer tells that it is reached there; off RS is where a search led."""
        if self._noticed is not None:
            path = self._noticed.before  # A capsule from there may have come before the word.
        if path is not None and not path.relayed and path.remote != source:
            self.notice(Cause.PEER_MOVED, path, now)

    def carry(self, path: Path | None, now: Instant) -> list[HandoverDone]:
        """Return what was noticed, if anything: the peer has answered by this path."""
        noticed, self._noticed = self._noticed, None
        if noticed is None or path is None:
            return []
        since = noticed.at if noticed.silent_since is None else noticed.silent_since
        return self._done(noticed.cause, noticed.before, path, since, now)

    def drop(self) -> None:
        """The new way led nowhere, and the tunnel is where it was."""
        self._noticed = None

    def _done(
        self, cause: Cause, before: Path | None, path: Path, since: Instant, now: Instant
    ) -> list[HandoverDone]:
        self._silent_since = None
        self.last = HandoverDone(
            self._fqdn,
            now,
            now - since,
            None if before is None else before.remote,
            path.remote,
            cause,
            before is not None and before.relayed,
            path.relayed,
        )
        return [self.last]
