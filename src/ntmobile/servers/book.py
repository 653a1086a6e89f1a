"""Foreign domains as the store keeps them, for the judge of domains."""

from contextlib import suppress

import structlog

from ntmobile.proto.coordinator.policy import Federation
from ntmobile.runtime.clock import Clock
from ntmobile.runtime.domains import Known, TrustedBy
from ntmobile.store import Store, StoreUnavailable

log = structlog.get_logger()


class NoBook:
    """For an RS alone, which has no store: only its own domain's DC talks to it."""

    async def look_up(self, domain: str) -> Known:
        """Nothing is known."""
        return Known()

    async def trust(self, domain: str, key: bytes, by: TrustedBy) -> None:
        """Never called, as no domain is admitted."""

    def admits(self, known: Known) -> bool:
        """No foreign domain is dealt with."""
        return False


class StoreBook:
    """A face of the store; mode is the federation's."""

    def __init__(self, store: Store, clock: Clock, mode: Federation) -> None:
        """Mode may be set anew at any time."""
        self._store = store
        self._clock = clock
        self.mode = mode

    async def look_up(self, domain: str) -> Known:
        """What is known of a domain; raises StoreUnavailable."""
        found = await self._store.federation.get(domain)
        if found is None:
            return Known()
        by: TrustedBy | None = None
        with suppress(ValueError):
            by = TrustedBy(found.trusted_by or "")
        ca = None if found.ca is None else found.ca.decode()
        return Known(found.listed, found.key_pin, ca, found.key, by)

    async def trust(self, domain: str, key: bytes, by: TrustedBy) -> None:
        """Write the key down; a store that cannot be written costs the memory, not the trust."""
        try:
            await self._store.federation.trust(domain, key, by, self._clock.wall())
        except StoreUnavailable as error:
            log.error("key of a domain not kept", domain=domain, why=str(error))

    def admits(self, known: Known) -> bool:
        """Whether the operator wants federation with a domain."""
        match self.mode:
            case Federation.OPEN:
                return True
            case Federation.LISTED:
                return known.listed
            case Federation.CLOSED:
                return False
