import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import dns.flags
import dns.message
import dns.rcode
import dns.resolver
import dns.rrset
import pytest

from ntmobile.servers.zone_check import Free, Taken, Unknown, examine

OWN = "dc.ntm.example.org"


def test_a_zone_that_does_not_exist_is_free() -> None:
    with serving({}) as resolver:
        assert examine("ntm.example.org", OWN, resolver) == Free()


def test_a_zone_that_names_only_our_own_server_is_free() -> None:
    with serving({"NS": "dc.ntm.example.org."}) as resolver:
        assert examine("ntm.example.org", OWN, resolver) == Free()


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("MX", "10 mail.example.org."),
        ("A", "203.0.113.1"),
        ("AAAA", "2001:db8::1"),
        ("NS", "ns1.example.org."),
    ],
)
def test_a_zone_that_serves_something_else_is_taken(kind: str, value: str) -> None:
    with serving({"NS": "dc.ntm.example.org.", kind: value}) as resolver:
        found = examine("ntm.example.org", OWN, resolver)

    assert found == Taken((f"ntm.example.org. {kind} {value}",))


def test_a_resolver_that_fails_leaves_it_unknown() -> None:
    with serving(None) as resolver:
        assert isinstance(examine("ntm.example.org", OWN, resolver), Unknown)


@contextmanager
def serving(records: dict[str, str] | None) -> Iterator[dns.resolver.Resolver]:
    """A resolver on loopback that knows these records of ntm.example.org; None: it fails."""

    class Answer(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            data, listener = self.request
            listener.sendto(answer(dns.message.from_wire(data), records), self.client_address)

    with socketserver.UDPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers = ["127.0.0.1"]
        resolver.port = server.server_address[1]
        try:
            yield resolver
        finally:
            server.shutdown()
            thread.join()


def answer(query: dns.message.Message, records: dict[str, str] | None) -> bytes:
    response = dns.message.make_response(query)
    question = query.question[0]
    kind = dns.rdatatype.to_text(question.rdtype)
    if records is None:
        response.set_rcode(dns.rcode.SERVFAIL)
    elif kind in records:
        record = dns.rrset.from_text(question.name, 60, "IN", kind, records[kind])
        response.answer.append(record)
    elif not records:
        response.set_rcode(dns.rcode.NXDOMAIN)
    response.flags |= dns.flags.RA
    return response.to_wire()
