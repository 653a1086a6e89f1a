from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntmobile.errors import DecodeError
from ntmobile.wire.upnp import (
    LONGEST,
    SEARCHED,
    Service,
    UpnpFault,
    call,
    is_at,
    location,
    result,
    search,
    service,
)

ROUTER = IPv4Address("192.168.1.1")
URL = "http://192.168.1.1:5000/rootDesc.xml"
IP1 = "urn:schemas-upnp-org:service:WANIPConnection:1"
IP2 = "urn:schemas-upnp-org:service:WANIPConnection:2"
SERVICE = Service(IP1, "http://192.168.1.1:5000/ctl")


def test_a_search_is_a_datagram_of_ssdp() -> None:
    lines = search(SEARCHED[0]).split(b"\r\n")

    assert lines[0] == b"M-SEARCH * HTTP/1.1"
    assert b'MAN: "ssdp:discover"' in lines
    assert lines[-2:] == [b"", b""]


def test_a_router_tells_where_it_describes_itself() -> None:
    assert location(answer(URL), ROUTER) == URL


@pytest.mark.parametrize(
    "url",
    [
        "http://192.168.1.2:5000/x",
        "http://192.168.1.1@192.168.1.2/x",
        "https://192.168.1.1/x",
        "file:///etc/passwd",
        "http://router/x",
        "http://[::1]/x",
        "http://192.168.1.1:99999/x",
        "http://[/x",
        "",
    ],
)
def test_a_description_anywhere_else_is_refused(url: str) -> None:
    assert not is_at(url, ROUTER)
    with pytest.raises(DecodeError):
        location(answer(url), ROUTER)


@pytest.mark.parametrize(
    "data",
    [b"", b"NOTIFY * HTTP/1.1\r\n\r\n", b"HTTP/1.1 404 no\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"],
)
def test_what_answers_no_search_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        location(data, ROUTER)


def test_the_best_service_of_a_description_is_found() -> None:
    both = description((IP1, "/one"), (IP2, "/two"))

    assert service(both, URL) == Service(IP2, "http://192.168.1.1:5000/two")
    assert service(description((IP1, "one")), URL) == Service(IP1, "http://192.168.1.1:5000/one")


@pytest.mark.parametrize("control", ["http://192.168.1.2/ctl", "//192.168.1.2/ctl", "", "http://["])
def test_a_service_at_another_host_does_not_count(control: str) -> None:
    with pytest.raises(DecodeError):
        service(description((IP1, control)), URL)


def test_a_base_elsewhere_leads_nowhere() -> None:
    with pytest.raises(DecodeError):
        service(description((IP1, "/ctl"), base="http://192.168.1.2/"), URL)


@pytest.mark.parametrize(
    "data",
    [
        b'<!DOCTYPE a [<!ENTITY b "bbbb">]><a>&b;</a>',
        '<!DOCTYPE a [<!ENTITY b "b">]><a>&b;</a>'.encode("utf-16"),
        b"<a>" * 3,
        b"\xff\xfe",
        b"<a>" + b" " * LONGEST + b"</a>",
        b"",
    ],
)
def test_xml_that_is_dangerous_or_broken_is_refused(data: bytes) -> None:
    for read in (lambda: service(data, URL), lambda: result(SERVICE, "AddPortMapping", data)):
        with pytest.raises(DecodeError):
            read()


@given(st.text(max_size=40))
def test_an_argument_comes_through_whatever_it_contains(value: str) -> None:
    printable = "".join(c for c in value if c.isprintable())
    body = call(SERVICE, "Add", {"NewText": printable}).body

    echoed = body.replace(b"<u:Add ", b"<u:AddResponse ").replace(b"</u:Add>", b"</u:AddResponse>")
    assert result(SERVICE, "Add", echoed) == {"NewText": printable.strip()}


def test_a_fault_has_the_routers_code() -> None:
    with pytest.raises(UpnpFault, match="718") as raised:
        result(SERVICE, "AddPortMapping", fault("718"))

    assert raised.value.code == 718


@pytest.mark.parametrize("code", ["", "x", "99999999999", "٣"])
def test_a_fault_without_a_code_is_refused_as_garbage(code: str) -> None:
    with pytest.raises(DecodeError) as raised:
        result(SERVICE, "AddPortMapping", fault(code))

    assert not isinstance(raised.value, UpnpFault)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_garbage_is_refused_and_nothing_else_raised(data: bytes) -> None:
    for read in (
        lambda: location(data, ROUTER),
        lambda: service(data, URL),
        lambda: result(SERVICE, "AddPortMapping", data),
    ):
        with pytest.raises(DecodeError):
            read()


def answer(url: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nST: {SEARCHED[0]}\r\nLocation: {url}\r\n\r\n".encode()


def description(*services: tuple[str, str], base: str = "") -> bytes:
    inner = "".join(
        f"<service><serviceType>{kind}</serviceType><controlURL>{url}</controlURL></service>"
        for kind, url in services
    )
    base = f"<URLBase>{base}</URLBase>" if base else ""
    return (
        '<?xml version="1.0"?><!-- a router --><root xmlns="urn:schemas-upnp-org:device-1-0">'
        f"{base}<device><deviceList><device><serviceList>{inner}</serviceList></device>"
        "</deviceList></device></root>"
    ).encode()


def fault(code: str) -> bytes:
    return (
        '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><s:Fault><detail>'
        '<UPnPError xmlns="urn:schemas-upnp-org:control-1-0">'
        f"<errorCode>{code}</errorCode><errorDescription>no</errorDescription>"
        "</UPnPError></detail></s:Fault></s:Body></s:Envelope>"
    ).encode()
