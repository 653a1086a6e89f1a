"""Asks the servers of this process, as a stranger would, whether they answer."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable

import dns.flags
import dns.message
import dns.rdatatype
import structlog

from ntmobile.errors import DecodeError, NTMobileError, Remedy
from ntmobile.proto.io import Entropy, random_bytes
from ntmobile.runtime.dns_client import ask
from ntmobile.runtime.https import Place, connect
from ntmobile.servers.own import OwnDomain
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.stun import TRANSACTION_SIZE, BindingRequest, BindingResponse

log = structlog.get_logger()

PATIENCE_S = 10.0
TRY_S = 1.0
PAUSE_S = 0.05


async def check_https(own: OwnDomain, name: str, endpoint: Endpoint) -> None:
    """Raises Remedy unless the HTTPS port answers with the domain's certificate."""

    async def attempt() -> None:
        async with connect(Place(name, (endpoint,)), own.trust):
            pass

    await _eventually(f"HTTPS at {endpoint}", attempt)


async def check_dns(zone: str, endpoint: Endpoint) -> None:
    """Raises Remedy unless the DNS server answers for the zone."""

    async def attempt() -> None:
        query = dns.message.make_query(f"{zone}.", dns.rdatatype.SOA)
        answer = await ask(endpoint, query, timeout_s=TRY_S)
        if not answer.answer or not answer.flags & dns.flags.AA:
            raise Remedy(f"another DNS server answers at {endpoint}")

    await _eventually(f"DNS at {endpoint}", attempt)


async def check_stun(endpoint: Endpoint, entropy: Entropy) -> None:
    """Raises Remedy unless the UDP port answers STUN."""

    async def attempt() -> None:
        request = BindingRequest(random_bytes(entropy, TRANSACTION_SIZE))
        family = socket.AF_INET6 if endpoint.version == 6 else socket.AF_INET
        loop = asyncio.get_running_loop()
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.setblocking(False)
            await loop.sock_sendto(asking, request.encode(), (str(endpoint.host), endpoint.port))
            async with asyncio.timeout(TRY_S):
                data, source = await loop.sock_recvfrom(asking, 2048)
        answer = BindingResponse.decode(data)
        if source[0] != str(endpoint.host):
            # NATs drop such answers; the system chose another of this machine's addresses.
            log.warning("answers leave from another address", asked=str(endpoint), from_=source[0])
        if answer.transaction != request.transaction:
            raise DecodeError("answers something else")

    await _eventually(f"UDP at {endpoint}", attempt)


async def _eventually(what: str, attempt: Callable[[], Awaitable[None]]) -> None:
    problem = "no answer"
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    return await attempt()
                except (OSError, NTMobileError) as error:
                    problem = str(error) or problem
                await asyncio.sleep(PAUSE_S)
    remedy = "look at the firewall of this machine: it must let the servers reach themselves"
    raise Remedy(f"{what} does not answer: {problem}", remedy=remedy)
