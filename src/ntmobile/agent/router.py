"""What a router is asked by UPnP, for real: SSDP on the link, HTTP to the router itself.

Nothing it says is followed anywhere else: no redirects, no other host, no more than LONGEST bytes,
no longer than a few seconds. Ours: docs/decisions/0006.
"""

import asyncio
import socket
from ipaddress import IPv4Address

import httpx
import structlog

from ntmobile.errors import DecodeError
from ntmobile.proto.node.port_mapping_udp import Denied
from ntmobile.proto.node.port_mapping_upnp import CallRouter, FindRouter, RouterRequest
from ntmobile.wire import upnp

SEARCH_S = 2.0
"""Devices answer within one second (MX); searches are sent twice."""
SEARCHES_APART_S = 0.7
HTTP_S = 4.0
HOPS = 2
_LOG = structlog.get_logger(__name__)


class Router:
    """The gateway of one link."""

    def __init__(self, gateway: IPv4Address, own: IPv4Address) -> None:
        """Searches leave from the own address; only the gateway's answer counts."""
        self._gateway = gateway
        self._own = own

    async def perform(self, request: RouterRequest) -> upnp.Service | bytes | Denied:
        """Carry out one request of the machine; never raises over what the router does."""
        try:
            match request:
                case FindRouter():
                    return await self._find()
                case CallRouter(_, call):
                    return await self._fetch("POST", call.url, call.headers, call.body)
        except (OSError, httpx.HTTPError, httpx.InvalidURL, DecodeError, ValueError) as error:
            _LOG.debug("router", error=str(error))
            return Denied(f"the router does not answer UPnP as it should: {error}"[:200])

    async def _find(self) -> upnp.Service | Denied:
        try:
            async with asyncio.timeout(SEARCH_S):
                url = await self._search()
        except TimeoutError:
            return Denied("the router does not answer UPnP")
        return upnp.service(await self._fetch("GET", url, {}, b""), url)

    async def _search(self) -> str:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.setblocking(False)
            asking.bind((str(self._own), 0))
            asking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, self._own.packed)
            asking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, HOPS)
            searching = loop.create_task(_send_searches(asking))
            try:
                while True:
                    data, source = await loop.sock_recvfrom(asking, 2048)
                    if source[0] != str(self._gateway):
                        continue
                    try:
                        return upnp.location(data, self._gateway)
                    except DecodeError:
                        continue
            finally:
                searching.cancel()

    async def _fetch(self, method: str, url: str, headers: dict[str, str], body: bytes) -> bytes:
        if not upnp.is_at(url, self._gateway):
            raise DecodeError("another host")
        # Faults come with status 500 and a body that says why.
        async with (
            asyncio.timeout(HTTP_S),
            httpx.AsyncClient(trust_env=False, follow_redirects=False) as client,
            client.stream(method, url, headers=headers, content=body) as response,
        ):
            received = b""
            async for chunk in response.aiter_raw():
                received += chunk
                if len(received) > upnp.LONGEST:
                    raise DecodeError("too long")
            return received


async def _send_searches(asking: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while True:
        for target in upnp.SEARCHED:
            there = (str(upnp.SSDP_HOST), upnp.SSDP_PORT)
            await loop.sock_sendto(asking, upnp.search(target), there)
        await asyncio.sleep(SEARCHES_APART_S)
