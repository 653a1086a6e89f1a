"""One host; its router played by hand, kind, strange and hostile."""

from dataclasses import dataclass, field
from ipaddress import IPv4Address
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.proto.parts import T0, drain

from ntmobile.proto.io import Failed
from ntmobile.proto.node.port_mapping import (
    LIFETIME_S,
    LONGEST_S,
    RESTART_NS,
    RETRY_NS,
    SHORTEST_S,
    PortMapped,
    PortMapping,
    PortUnmapped,
)
from ntmobile.proto.node.port_mapping_udp import Denied, Epoch, MappingProtocol
from ntmobile.proto.node.port_mapping_upnp import CallRouter, FindRouter
from ntmobile.time import SECOND, Instant
from ntmobile.wire import natpmp, pcp, upnp
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.registration import Reason

GATEWAY, OWN, PORT = IPv4Address("192.168.1.1"), IPv4Address("192.168.1.10"), 40404
ROUTER = Endpoint(GATEWAY, pcp.PORT)
OUTSIDE = Endpoint("203.0.113.7", 40404)
IP1 = "urn:schemas-upnp-org:service:WANIPConnection:1"
SERVICE = upnp.Service(IP1, "http://192.168.1.1:5000/ctl")
PCP, NAT_PMP, UPNP = MappingProtocol


@dataclass
class Router:
    """Speaks what it is told to; leases is what it has."""

    speaks: set[MappingProtocol]
    lifetime_s: int = LIFETIME_S
    booted_s: int = -1000
    address: IPv4Address = OUTSIDE.host  # type: ignore[assignment]
    taken: set[int] = field(default_factory=set)
    only_permanent: bool = False
    refuses: bool = False
    leases: dict[int, int] = field(default_factory=dict)
    """Lifetime by external port."""

    def epoch(self, now: Instant) -> int:
        return now // SECOND - self.booted_s

    def udp(self, data: bytes, now: Instant) -> list[bytes]:
        if data[0] == natpmp.VERSION and NAT_PMP in self.speaks:
            return [self._nat_pmp(data, now)]
        if data[0] == pcp.VERSION and PCP in self.speaks:
            return [self._pcp(pcp.MapRequest.decode(data), now)]
        if NAT_PMP in self.speaks:
            return [natpmp.Refusal(natpmp.UNSUPPORTED_VERSION, self.epoch(now)).encode()]
        return []

    def http(self, request: FindRouter | CallRouter) -> upnp.Service | bytes | Denied:
        if UPNP not in self.speaks:
            return Denied("the router does not answer UPnP")
        if isinstance(request, FindRouter):
            return SERVICE
        return self._soap(request.request)

    def _grant(self, port: int, lifetime_s: int) -> int:
        if not lifetime_s:
            self.leases.pop(port, None)
            return port
        while port in self.taken:
            port += 1
        self.leases[port] = self.lifetime_s
        return port

    def _pcp(self, request: pcp.MapRequest, now: Instant) -> bytes:
        result = pcp.Result.NOT_AUTHORIZED if self.refuses else pcp.Result.SUCCESS
        port = self._grant(request.external.port, request.lifetime_s)
        lifetime = self.lifetime_s if request.lifetime_s else 0
        body = pcp.Mapped(request.nonce, request.internal_port, Endpoint(self.address, port))
        return pcp.Response(result, lifetime, self.epoch(now), body).encode()

    def _nat_pmp(self, data: bytes, now: Instant) -> bytes:
        if self.refuses:
            return natpmp.Refusal(2, self.epoch(now)).encode()
        if data == natpmp.ADDRESS_REQUEST:
            return natpmp.ExternalAddress(0, self.epoch(now), self.address).encode()
        request = natpmp.MapRequest.decode(data)
        held = next(iter(self.leases), 0)
        port = self._grant(request.external_port or held, request.lifetime_s)
        lifetime = self.lifetime_s if request.lifetime_s else 0
        return natpmp.MapResponse(
            0, self.epoch(now), request.internal_port, port, lifetime
        ).encode()

    def _soap(self, request: upnp.SoapRequest) -> bytes:
        text = request.body.decode()

        def value(name: str) -> str:
            return text.partition(f"<{name}>")[2].partition("<")[0]

        if self.refuses:
            return _fault(606)
        if "DeletePortMapping" in text:
            self.leases.pop(int(value("NewExternalPort")), None)
            return _answer("DeletePortMapping", "")
        if "GetExternalIPAddress" in text:
            inner = f"<NewExternalIPAddress>{self.address}</NewExternalIPAddress>"
            return _answer("GetExternalIPAddress", inner)
        assert (value("NewInternalClient"), value("NewInternalPort")) == (str(OWN), str(PORT))
        if self.only_permanent and value("NewLeaseDuration") != "0":
            return _fault(upnp.ONLY_PERMANENT_LEASES)
        if int(value("NewExternalPort")) in self.taken:
            return _fault(upnp.CONFLICT)
        self.leases[int(value("NewExternalPort"))] = int(value("NewLeaseDuration"))
        return _answer("AddPortMapping", "")


@dataclass
class Host:
    """The machine and its router, in one instant unless time passes."""

    router: Router
    now: Instant = T0
    events: list[PortMapped | PortUnmapped] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.machine = PortMapping(GATEWAY, OWN, PORT, Random(1))

    def start(self) -> "Host":
        self.machine.start(self.now)
        self.settle()
        return self

    def settle(self) -> None:
        busy = True
        while busy:
            busy = False
            for transmit in drain(self.machine.poll_transmit):
                busy = True
                assert transmit.destination == ROUTER
                self.sent.append(transmit.payload)
                for answer in self.router.udp(transmit.payload, self.now):
                    self.machine.handle_datagram(ROUTER, answer, self.now)
            for request in drain(self.machine.poll_request):
                busy = True
                self.machine.handle_reply(request.id, self.router.http(request), self.now)
            self.events += drain(self.machine.poll_event)

    def pass_time(self, seconds: float) -> None:
        until = Instant(self.now + round(seconds * SECOND))
        while (due := self.machine.poll_timeout()) is not None and due.at <= until:
            self.now = max(self.now, due.at)
            self.machine.handle_timeout(self.now)
            following = self.machine.poll_timeout()
            assert following is None or following.at > self.now, f"spins: {due.reason}"
            self.settle()
        self.now = until


@pytest.mark.parametrize("protocol", MappingProtocol)
def test_the_protocol_that_the_router_speaks_is_found(protocol: MappingProtocol) -> None:
    host = Host(Router({protocol})).start()
    host.pass_time(10)

    assert host.events == [PortMapped(protocol, OUTSIDE)]
    assert host.router.leases == {PORT: LIFETIME_S}


def test_a_router_of_several_is_asked_by_pcp() -> None:
    assert Host(Router(set(MappingProtocol))).start().events == [PortMapped(PCP, OUTSIDE)]


def test_a_router_that_only_knows_the_older_protocol_says_so_at_once() -> None:
    host = Host(Router({NAT_PMP})).start()

    assert host.now == T0
    assert host.events == [PortMapped(NAT_PMP, OUTSIDE)]


def test_where_no_protocol_helps_all_are_named_and_tried_again_after_an_hour() -> None:
    host = Host(Router(set())).start()
    host.pass_time(10)

    [event] = host.events
    assert isinstance(event, PortUnmapped)
    for protocol in MappingProtocol:
        assert protocol in event.reason
    asked = len(host.sent)
    host.pass_time(RETRY_NS / SECOND)
    assert len(host.sent) > asked


@pytest.mark.parametrize("protocol", MappingProtocol)
def test_a_router_that_refuses_is_not_pressed(protocol: MappingProtocol) -> None:
    host = Host(Router({protocol}, refuses=True)).start()
    host.pass_time(60)

    assert [type(event) for event in host.events] == [PortUnmapped]
    assert "refuses" in host.events[0].reason  # type: ignore[union-attr]


@pytest.mark.parametrize("protocol", MappingProtocol)
def test_a_mapping_is_renewed_at_half_its_life_and_never_announced_twice(
    protocol: MappingProtocol,
) -> None:
    host = Host(Router({protocol})).start()
    host.pass_time(10)

    for _ in range(5):
        host.router.leases.clear()
        host.pass_time(LIFETIME_S / 2)
        assert host.router.leases == {PORT: LIFETIME_S}
    assert len(host.events) == 1


@pytest.mark.parametrize("protocol", MappingProtocol)
def test_a_port_is_given_back_at_the_end(protocol: MappingProtocol) -> None:
    host = Host(Router({protocol})).start()
    host.pass_time(10)

    host.machine.stop(host.now)
    host.settle()

    assert host.router.leases == {}
    assert host.events[-1] == PortUnmapped("given back")
    assert host.machine.poll_timeout() is None


@pytest.mark.parametrize("protocol", MappingProtocol)
def test_a_router_that_is_gone_at_the_end_holds_nobody_up(protocol: MappingProtocol) -> None:
    host = Host(Router({protocol})).start()
    host.pass_time(10)
    host.router.speaks.clear()

    host.machine.stop(host.now)
    host.settle()
    host.pass_time(4)

    assert host.events[-1] == PortUnmapped("given back")
    assert host.machine.poll_timeout() is None


@pytest.mark.parametrize("protocol", MappingProtocol)
def test_a_router_that_dies_is_known_when_the_mapping_is_over(protocol: MappingProtocol) -> None:
    host = Host(Router({protocol})).start()
    host.pass_time(10)
    host.router.speaks.clear()
    host.pass_time(LIFETIME_S + 20)

    assert isinstance(host.events[1], PortUnmapped)
    assert host.machine.mapped is None

    host.router.speaks = {protocol}
    host.pass_time(RETRY_NS / SECOND + 20)
    assert host.events[-1] == PortMapped(protocol, OUTSIDE)


@pytest.mark.parametrize("protocol", [PCP, NAT_PMP])
def test_a_router_that_announces_its_restart_is_asked_again(protocol: MappingProtocol) -> None:
    host = Host(Router({protocol})).start()
    host.pass_time(100)
    host.router.leases.clear()
    host.router.booted_s = host.now // SECOND
    announcement = (
        pcp.Response(0, 0, 0).encode()
        if protocol is PCP
        else natpmp.ExternalAddress(0, 0, host.router.address).encode()
    )

    host.machine.handle_announcement(Endpoint("192.168.1.66", 5351), announcement, host.now)
    host.settle()
    assert host.router.leases == {}

    host.machine.handle_announcement(ROUTER, announcement, host.now)
    host.settle()
    assert host.router.leases == {PORT: LIFETIME_S}


def test_a_router_that_restarts_all_the_time_is_asked_no_faster() -> None:
    host = Host(Router({PCP})).start()
    host.pass_time(100)
    asked = len(host.sent)

    for step in range(100):
        announcement = pcp.Response(0, 0, step % 2 * 1000).encode()
        host.machine.handle_announcement(ROUTER, announcement, host.now)
        host.settle()
        host.pass_time(0.1)

    assert len(host.sent) - asked <= 2 + 10 * SECOND / RESTART_NS


def test_another_port_is_asked_for_where_upnp_says_that_it_is_taken() -> None:
    host = Host(Router({UPNP}, taken={PORT})).start()
    host.pass_time(10)

    [mapped] = host.events
    assert isinstance(mapped, PortMapped)
    assert mapped.external.port not in host.router.taken
    assert list(host.router.leases) == [mapped.external.port]


def test_a_router_of_permanent_leases_is_asked_for_one_and_gets_it_back() -> None:
    host = Host(Router({UPNP}, only_permanent=True)).start()
    host.pass_time(10)
    assert host.router.leases == {PORT: 0}

    host.machine.stop(host.now)
    host.settle()

    assert host.router.leases == {}


@pytest.mark.parametrize("protocol", [PCP, NAT_PMP])
@pytest.mark.parametrize("lifetime_s", [1, 59, 2**32 - 1])
def test_no_lifetime_makes_the_host_spin_or_believe_for_ever(
    protocol: MappingProtocol, lifetime_s: int
) -> None:
    host = Host(Router({protocol}, lifetime_s=lifetime_s)).start()
    asked = len(host.sent)
    host.pass_time(LONGEST_S)

    assert 1 <= len(host.sent) - asked <= 2 * 2 * LONGEST_S / SHORTEST_S


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1", "224.0.0.1"])
@pytest.mark.parametrize("protocol", MappingProtocol)
def test_an_address_that_cannot_be_is_no_grant(protocol: MappingProtocol, address: str) -> None:
    host = Host(Router({protocol}, address=IPv4Address(address))).start()
    host.pass_time(10)

    assert [type(event) for event in host.events] == [PortUnmapped]


@pytest.mark.parametrize(
    ("address", "inside"),
    [("10.1.1.1", True), ("100.64.3.4", True), ("192.168.0.2", True), ("203.0.113.7", False)],
)
def test_a_router_behind_another_nat_is_known_by_its_address(address: str, inside: bool) -> None:
    host = Host(Router({PCP}, address=IPv4Address(address))).start()

    assert host.machine.mapped is not None
    assert host.machine.mapped.behind_another_nat is inside


def test_only_the_router_is_believed() -> None:
    host = Host(Router(set())).start()
    request = pcp.MapRequest.decode(host.sent[0])
    body = pcp.Mapped(request.nonce, PORT, OUTSIDE)
    grant = pcp.Response(0, 100, 1, body).encode()
    others = pcp.Response(0, 100, 1, pcp.Mapped(bytes(12), PORT, OUTSIDE)).encode()

    host.machine.handle_datagram(Endpoint("192.168.1.66", pcp.PORT), grant, host.now)
    host.machine.handle_datagram(Endpoint(GATEWAY, 9), grant, host.now)
    host.machine.handle_datagram(ROUTER, others, host.now)
    host.settle()
    assert host.events == []

    host.machine.handle_datagram(ROUTER, grant, host.now)
    host.settle()
    assert host.events == [PortMapped(PCP, OUTSIDE)]


@given(
    st.lists(
        st.tuples(
            st.floats(0, 400),
            st.sampled_from(["answer", "announce", "reply", "fail", "stop", "start", "renew"]),
            st.binary(max_size=70),
            st.sampled_from([b"", b"\x02\x81\x00\x00", b"\x00\x80\x00\x00", b"\x00\x81\x00\x00"]),
        ),
        max_size=30,
    )
)
def test_whatever_a_router_says_nothing_raises_and_nothing_spins(
    acts: list[tuple[float, str, bytes, bytes]],
) -> None:
    host = Host(Router(set(MappingProtocol))).start()
    for seconds, act, data, head in acts:
        host.pass_time(seconds)
        match act:
            case "answer":
                host.machine.handle_datagram(ROUTER, head + data, host.now)
            case "announce":
                host.machine.handle_announcement(ROUTER, head + data, host.now)
            case "reply":
                host.machine.handle_reply(len(data) % 9, data, host.now)
            case "fail":
                host.machine.handle_reply(len(data) % 9, Failed(Reason.BUSY), host.now)
            case "stop":
                host.machine.stop(host.now)
            case "start":
                host.machine.start(host.now)
            case "renew":
                host.machine.renew(host.now)
        host.settle()

    host.machine.stop(host.now)
    host.settle()
    host.pass_time(5)
    assert host.machine.mapped is None


@given(st.lists(st.tuples(st.integers(0, 4000), st.integers(-3, 3)), min_size=2))
def test_a_clock_that_runs_a_little_wrong_is_no_restart(steps: list[tuple[int, int]]) -> None:
    epoch, server_s, now = Epoch(), 10_000, Instant(0)
    for step, drift in steps:
        now = Instant(now + step * SECOND)
        server_s += max(step + (drift if step > 100 else 0), 0)

        assert not epoch.take(server_s, now)


def test_a_clock_that_falls_back_or_stands_still_is_a_restart() -> None:
    for later_s in (0, 1000):
        epoch = Epoch()
        epoch.take(1000, Instant(0))

        assert epoch.take(later_s, Instant(600 * SECOND))


def _answer(action: str, inner: str) -> bytes:
    return (
        '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>'
        f'<u:{action}Response xmlns:u="{IP1}">{inner}</u:{action}Response></s:Body></s:Envelope>'
    ).encode()


def _fault(code: int) -> bytes:
    return (
        '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><s:Fault><detail>'
        f'<UPnPError xmlns="urn:schemas-upnp-org:control-1-0"><errorCode>{code}</errorCode>'
        "</UPnPError></detail></s:Fault></s:Body></s:Envelope>"
    ).encode()
