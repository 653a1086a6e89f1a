"""Judges logins for the AS: password, pre-authorised key, certificate, or enrolled device key.

Whoever is let in gets a certificate. Source: paper, Fig. 2 and Node authentication.

The machine checked nonce, identity and signature before: whoever asks holds the device key it
shows. What is left is whose it is. Ours: docs/protocol.md section 2.
"""

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from ntmobile.errors import NTMobileError
from ntmobile.keys.identity import is_successor
from ntmobile.keys.passwords import (
    SALT_SIZE,
    USUAL,
    Cost,
    authority_digest,
    hash_password,
    verify_password,
)
from ntmobile.proto.io import LoginVerified, VerifyLogin
from ntmobile.runtime.clock import Clock
from ntmobile.servers.authority import NodeAuthority
from ntmobile.servers.policy import PolicyFile
from ntmobile.servers.slow_down import Prefix, SlowDown, prefix_of
from ntmobile.store import Enrolled, Enrolment, Store, StoreUnavailable
from ntmobile.wire.login import LoginRefusal, LoginRefused, LoginRequest

AT_ONCE = 2
"""Checks of a password that run at the same time: each takes 46 MiB and a core."""
WAITING = 64
"""Logins by password that wait for their check; further ones are told to come back."""
WAITING_A_PREFIX = 16
"""Of one source network: a single guesser cannot take all places."""
BUSY_S = 2
STORE_S = 10


class Logins:
    """Answers VerifyLogin; raises nothing."""

    def __init__(
        self,
        domain: str,
        store: Store,
        policy: PolicyFile,
        clock: Clock,
        authority: NodeAuthority,
        *,
        cost: Cost = USUAL,
        slow_down: SlowDown | None = None,
    ) -> None:
        """Cost is that of new passwords, which an unknown user's login must match."""
        self.authority = authority
        self._domain = domain
        self._store = store
        self._policy = policy
        self._clock = clock
        self._slow_down = slow_down or SlowDown()
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="argon2")
        self._waiting: Counter[Prefix] = Counter()
        self._nobody = hash_password("nobody has this", bytes(SALT_SIZE), cost)
        self.refused: Counter[LoginRefused] = Counter()

    def set_policy(self, policy: PolicyFile) -> None:
        """Take groups from here for logins from now on."""
        self._policy = policy

    async def verify(self, login: VerifyLogin) -> LoginVerified | LoginRefusal:
        """Judge one login; enrols a device key that is new and proven."""
        request = login.message
        if not isinstance(request, LoginRequest):
            return LoginRefusal(LoginRefused.CREDENTIALS)
        try:
            answer = await self._judge(request, login.source)
        except StoreUnavailable:
            answer = LoginRefusal(LoginRefused.STORE, STORE_S)
        if isinstance(answer, LoginRefusal):
            self.refused[answer.reason] += 1
        return answer

    def close(self) -> None:
        """Let running checks end and stop their threads."""
        self._threads.shutdown(cancel_futures=True)

    async def _judge(self, request: LoginRequest, source: str) -> LoginVerified | LoginRefusal:
        if request.password is not None:
            return await self._by_password(request, request.password, source)
        if request.authority is not None:
            return await self._by_authority(request, request.authority)
        answer = await self._by_device(request)
        unknown = isinstance(answer, LoginRefusal) and answer.reason is LoginRefused.CREDENTIALS
        if unknown and request.identity.certificate:
            return await self._by_certificate(request)
        return answer

    async def _by_certificate(self, request: LoginRequest) -> LoginVerified | LoginRefusal:
        """Who signs for a name by a CA that is trusted may take it over from an older key."""
        fqdn = self._fqdn(request)
        fault = self.authority.judge(fqdn, request.identity)
        if fault is not None:
            return LoginRefusal(LoginRefused(fault.value))
        before = await self._store.nodes.get(fqdn)
        return await self._enrol(request, successor_of=None if before is None else before.device)

    async def _by_device(self, request: LoginRequest) -> LoginVerified | LoginRefusal:
        fqdn = self._fqdn(request)
        device = request.identity.device
        if await self._store.nodes.is_revoked(device):
            return LoginRefusal(LoginRefused.REVOKED)
        node = await self._store.nodes.get(fqdn)
        user = await self._store.users.get(request.user)
        if node is None or user is None or user.disabled or node.device != device:
            return LoginRefusal(LoginRefused.CREDENTIALS)
        with suppress(StoreUnavailable):
            # Only a note of when: a full disk must not shut out who is enrolled.
            await self._store.nodes.seen(fqdn, request.identity.tunnel, self._clock.wall())
        return self._verified(request, node.tags)

    async def _by_authority(self, request: LoginRequest, text: str) -> LoginVerified | LoginRefusal:
        authority = await self._store.authorities.find(authority_digest(text))
        if authority is None or authority.user != request.user:
            return LoginRefusal(LoginRefused.CREDENTIALS)
        if not authority.is_good(self._clock.wall()):
            return LoginRefusal(LoginRefused.CREDENTIALS)
        single = None if authority.reusable else authority.id
        return await self._enrol(
            request, tags=authority.tags, ephemeral=authority.ephemeral, authority=single
        )

    async def _by_password(
        self, request: LoginRequest, password: str, source: str
    ) -> LoginVerified | LoginRefusal:
        wait_s = self._slow_down.begin(request.user, source, self._clock.now())
        if wait_s:
            return LoginRefusal(LoginRefused.SLOW_DOWN, wait_s)
        user = await self._store.users.get(request.user)
        known = None if user is None or user.disabled else user.password
        try:
            good = await self._check(known or self._nobody, password, prefix_of(source))
        except _Busy:
            return LoginRefusal(LoginRefused.BUSY, BUSY_S)
        if not good or known is None:
            return LoginRefusal(LoginRefused.CREDENTIALS)
        self._slow_down.succeeded(request.user, source)
        return await self._enrol(request)

    async def _check(self, hashed: str, password: str, prefix: Prefix) -> bool:
        if self._waiting.total() >= WAITING or self._waiting[prefix] >= WAITING_A_PREFIX:
            raise _Busy
        self._waiting[prefix] += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, verify_password, hashed, password)
        finally:
            self._waiting[prefix] -= 1
            self._waiting += Counter()  # Drops the prefixes that count nothing.

    async def _enrol(
        self,
        request: LoginRequest,
        *,
        tags: tuple[str, ...] = (),
        ephemeral: bool = False,
        authority: int | None = None,
        successor_of: bytes | None = None,
    ) -> LoginVerified | LoginRefusal:
        fqdn, now = self._fqdn(request), self._clock.wall()
        device, tunnel = request.identity.device, request.identity.tunnel
        new = Enrolment(fqdn, request.user, request.name, device, tunnel, tags, ephemeral)
        signer = successor_of or await self._signer(fqdn, request)
        enrolled = await self._store.nodes.enrol(new, now, successor_of=signer, authority=authority)
        match enrolled:
            case Enrolled.DONE:
                node = await self._store.nodes.get(fqdn)
                return self._verified(request, tags if node is None else node.tags)
            case Enrolled.NAME_TAKEN if request.successor is not None:
                return LoginRefusal(LoginRefused.IDENTITY)
            case Enrolled.NAME_TAKEN:
                return LoginRefusal(LoginRefused.NAME_TAKEN)
            case Enrolled.REVOKED:
                return LoginRefusal(LoginRefused.REVOKED)
            case Enrolled.AUTHORITY_USED | Enrolled.NO_USER:
                return LoginRefusal(LoginRefused.CREDENTIALS)

    async def _signer(self, fqdn: str, request: LoginRequest) -> bytes | None:
        """The enrolled device key, if it signed this one."""
        node = await self._store.nodes.get(fqdn)
        if node is None or request.successor is None:
            return None
        good = is_successor(node.device, request.identity.device, request.successor)
        return node.device if good else None

    def _verified(self, request: LoginRequest, tags: tuple[str, ...]) -> LoginVerified:
        fqdn = self._fqdn(request)
        groups = (*self._policy.groups_of(request.user, fqdn), *tags)
        names = tuple(dict.fromkeys(groups))
        issued = self.authority.issue(fqdn, request.identity.device)
        if issued is None:
            return LoginVerified(fqdn, names)
        return LoginVerified(fqdn, names, issued.der, issued.lifetime_s)

    def _fqdn(self, request: LoginRequest) -> str:
        return f"{request.name}.{request.user}.{self._domain}"


class _Busy(NTMobileError):
    """Too many logins wait."""
