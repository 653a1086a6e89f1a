"""Requests between servers: signed by the asking domain's key, and checked.

Headers: NTM-Domain (who asks), NTM-Asked (whom), NTM-Time (seconds since 1970), NTM-Nonce and
NTM-Signature (base64). Ours: docs/protocol.md section 1.
"""

import binascii
from base64 import b64decode, b64encode
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

from ntmobile.errors import NTMobileError
from ntmobile.keys.identity import sign, verify
from ntmobile.proto.io import Entropy, random_bytes
from ntmobile.wire.federation import REQUEST_LIFETIME_S, request_bytes

NONCE_SIZE = 16
MAX_NONCES = 100_000
SIGNATURE_SIZE = 64


class SignatureWrong(NTMobileError):
    """A request between servers is not from whom it says; the text is for both operators."""


class ClockWrong(SignatureWrong):
    """A request between servers is too old or from the future: one of two clocks is wrong."""


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs requests in the name of one domain."""

    domain: str
    private: bytes = field(repr=False)
    entropy: Entropy

    def headers(
        self, path: str, body: bytes, *, asked: str, certificate: bytes, time_s: int
    ) -> dict[str, str]:
        """Return the headers of a POST to a server that presented this certificate (SHA-256)."""
        nonce = random_bytes(self.entropy, NONCE_SIZE)
        signed = request_bytes(
            path=path,
            body=body,
            asker=self.domain,
            asked=asked,
            time_s=time_s,
            nonce=nonce,
            certificate=certificate,
        )
        return {
            "NTM-Domain": self.domain,
            "NTM-Asked": asked,
            "NTM-Time": str(time_s),
            "NTM-Nonce": b64encode(nonce).decode(),
            "NTM-Signature": b64encode(sign(self.private, signed)).decode(),
        }


@dataclass(frozen=True, slots=True)
class _Claim:
    """What the headers say, not yet believed."""

    domain: str
    time_s: int
    nonce: bytes
    signature: bytes


class Verifier:
    """Accepts each signed request once, within five minutes of its time."""

    def __init__(self, domain: str, key_of: Callable[[str, bool], Awaitable[bytes]]) -> None:
        """Answers for domain.

        key_of(domain, fresh) gives the key of an asking domain, or raises; fresh asks it to look
        again whether the key changed.
        """
        self._domain = domain
        self._key_of = key_of
        self._seen: OrderedDict[bytes, int] = OrderedDict()

    async def check(
        self,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        certificates: Iterable[bytes],
        now_s: int,
    ) -> str:
        """Return the domain that signed the request; raises SignatureWrong, or what key_of does.

        Certificates are the SHA-256 of those that this server presents.
        """
        claim = self._parse(headers)
        self._check_time(claim, now_s)
        signed = [self._signed(claim, path, body, certificate) for certificate in certificates]
        for fresh in (False, True):
            key = await self._key_of(claim.domain, fresh)
            if any(verify(key, claim.signature, each) for each in signed):
                self._take_nonce(claim, now_s)
                return claim.domain
        raise SignatureWrong(
            f"the signature is not by the key of {claim.domain} that {self._domain} trusts, "
            f"or the request was meant for another server"
        )

    def _signed(self, claim: _Claim, path: str, body: bytes, certificate: bytes) -> bytes:
        return request_bytes(
            path=path,
            body=body,
            asker=claim.domain,
            asked=self._domain,
            time_s=claim.time_s,
            nonce=claim.nonce,
            certificate=certificate,
        )

    def _parse(self, headers: Mapping[str, str]) -> _Claim:
        try:
            claim = _Claim(
                headers["ntm-domain"],
                int(headers["ntm-time"]),
                b64decode(headers["ntm-nonce"], validate=True),
                b64decode(headers["ntm-signature"], validate=True),
            )
        except KeyError as error:
            raise SignatureWrong(f"the request is not signed: no {error.args[0]}") from None
        except (ValueError, binascii.Error):
            raise SignatureWrong("the request's signature is malformed") from None
        if len(claim.nonce) != NONCE_SIZE or len(claim.signature) != SIGNATURE_SIZE:
            raise SignatureWrong("the request's signature is malformed")
        if not 0 <= claim.time_s < 1 << 62:
            raise SignatureWrong("the request's time is malformed")
        if headers.get("ntm-asked") != self._domain:
            raise SignatureWrong(f"this is {self._domain}, not {headers.get('ntm-asked')}")
        return claim

    def _check_time(self, claim: _Claim, now_s: int) -> None:
        ahead_s = claim.time_s - now_s
        if abs(ahead_s) <= REQUEST_LIFETIME_S:
            return
        relation = "ahead of" if ahead_s > 0 else "behind"
        raise ClockWrong(
            f"the clock of {claim.domain} is {abs(ahead_s)} s {relation} that of {self._domain}; "
            f"{REQUEST_LIFETIME_S} s are allowed: correct the clock that is wrong"
        )

    def _take_nonce(self, claim: _Claim, now_s: int) -> None:
        # Only signed ones are kept, so a stranger cannot fill this; a domain that does is told.
        while self._seen and next(iter(self._seen.values())) < now_s - 2 * REQUEST_LIFETIME_S:
            self._seen.popitem(last=False)
        if claim.nonce in self._seen:
            raise SignatureWrong("the request was seen before")
        if len(self._seen) >= MAX_NONCES:
            raise SignatureWrong("too many requests in ten minutes")
        self._seen[claim.nonce] = now_s
