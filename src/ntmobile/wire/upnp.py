"""UPnP Internet Gateway Device: SSDP to find a router, its description, SOAP to ask for a port.

All of it is text from a stranger. What is read is bounded by whoever fetched it (LONGEST), document
types are refused, and a control URL counts only at the very host that answered the search.
Source: UPnP Device Architecture 1.1, sections 1.3, 2 and 3; WANIPConnection:1 and :2.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from ntmobile.errors import DecodeError

SSDP_HOST, SSDP_PORT = IPv4Address("239.255.255.250"), 1900
LONGEST = 65536
"""Bytes of a description or an answer; real ones have a tenth."""
SEARCHED = (
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
)
SERVICES = (
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
)
"""Best first."""
ONLY_PERMANENT_LEASES = 725
CONFLICT = 718
_DEVICE = "{urn:schemas-upnp-org:device-1-0}"
_CONTROL = "{urn:schemas-upnp-org:control-1-0}"


class Service(NamedTuple):
    """Where a router takes requests for ports."""

    type: str
    control: str
    """An absolute http URL at the router's own address."""


class UpnpFault(DecodeError):
    """The router said no."""

    def __init__(self, code: int, description: str) -> None:
        """Code as in WANIPConnection's table; the description is the router's."""
        super().__init__(f"UPnP error {code}: {description}")
        self.code = code


@dataclass(frozen=True, slots=True)
class SoapRequest:
    """One HTTP POST."""

    url: str
    headers: dict[str, str]
    body: bytes


def search(target: str) -> bytes:
    """Return the datagram that asks all devices of a kind to answer within a second."""
    lines = (
        "M-SEARCH * HTTP/1.1",
        f"HOST: {SSDP_HOST}:{SSDP_PORT}",
        'MAN: "ssdp:discover"',
        "MX: 1",
        f"ST: {target}",
    )
    return "\r\n".join((*lines, "", "")).encode()


def location(data: bytes, source: IPv4Address) -> str:
    """Return where the device that answered a search from source describes itself.

    Raises DecodeError when it answers something else, or points to another host.
    """
    head, *rest = data.decode("latin-1").split("\r\n")
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (x.partition(":") for x in rest)
    }
    if not head.startswith("HTTP/1.") or " 200 " not in f"{head} ":
        raise DecodeError("no answer to a search")
    if headers.get("st") not in SEARCHED:
        raise DecodeError("another kind of device")
    url = headers.get("location", "")
    if not is_at(url, source):
        raise DecodeError("a device describes itself at its own address")
    return url


def is_at(url: str, host: IPv4Address) -> bool:
    """Whether an URL is plain HTTP at that very address."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    return parts.scheme == "http" and parts.hostname == str(host) and port != 0


def service(description: bytes, url: str) -> Service:
    """Return the best service for port mapping that a description, fetched from url, names.

    Raises DecodeError.
    """
    root = _parse(description)
    base = root.findtext(f"{_DEVICE}URLBase") or url
    host = urlsplit(url).hostname
    found: dict[str, str] = {}
    for each in root.iter(f"{_DEVICE}service"):
        kind = (each.findtext(f"{_DEVICE}serviceType") or "").strip()
        control = (each.findtext(f"{_DEVICE}controlURL") or "").strip()
        absolute = _absolute(base, control)
        if control and host is not None and is_at(absolute, IPv4Address(host)):
            found.setdefault(kind, absolute)
    for kind in SERVICES:
        if kind in found:
            return Service(kind, found[kind])
    raise DecodeError("a router without port mapping")


def call(service: Service, action: str, arguments: Mapping[str, str]) -> SoapRequest:
    """Return the request for an action of a service."""
    inner = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in arguments.items())
    body = (
        '<?xml version="1.0"?>'
        '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" '
        's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>'
        f'<u:{action} xmlns:u="{service.type}">{inner}</u:{action}></s:Body></s:Envelope>'
    )
    headers = {
        "Content-Type": 'text/xml; charset="utf-8"',
        "SOAPAction": f'"{service.type}#{action}"',
    }
    return SoapRequest(service.control, headers, body.encode())


def result(service: Service, action: str, body: bytes) -> dict[str, str]:
    """Return what an action gave out; raises UpnpFault when it failed, else DecodeError."""
    root = _parse(body)
    answer = root.find(f".//{{{service.type}}}{action}Response")
    if answer is not None:
        return {child.tag.rpartition("}")[2]: (child.text or "").strip() for child in answer}
    fault = root.find(f".//{_CONTROL}UPnPError")
    if fault is None:
        raise DecodeError("neither an answer nor a fault")
    code = (fault.findtext(f"{_CONTROL}errorCode") or "").strip()
    if not (code.isascii() and code.isdigit() and len(code) <= 4):
        raise DecodeError("a fault without a code")
    text = fault.findtext(f"{_CONTROL}errorDescription") or ""
    raise UpnpFault(int(code), text[:100])


def _absolute(base: str, relative: str) -> str:
    try:
        return urljoin(base, relative)
    except ValueError:
        return ""


def _parse(data: bytes) -> ElementTree.Element:
    """Parse XML that cannot refer to anything; raises DecodeError."""
    if len(data) > LONGEST:
        raise DecodeError("too long")
    try:
        text = data.decode()
        # A document type is where entities come from; no router needs one.
        if "<!" in text.replace("<!--", "").replace("<![CDATA[", ""):
            raise DecodeError("XML with a document type")
        return ElementTree.fromstring(text)
    except (UnicodeDecodeError, ElementTree.ParseError, ValueError) as error:
        raise DecodeError(str(error)) from None
