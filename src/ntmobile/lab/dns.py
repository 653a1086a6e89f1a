"""The public DNS of a lab: root, parent zones and recursive resolver in one BIND.

With `signed` the zones have keys, and the root names those of the others (DNSSEC); the resolver
validates nothing even then, because that is for those to do whom the lab is about.
"""

from collections.abc import Iterable, Mapping
from functools import partial

import dns.dnssec
import dns.exception
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.update
import dns.zonefile

from ntmobile.lab.errors import LabError
from ntmobile.lab.host import Host
from ntmobile.lab.nat64 import INSIDE, PREFIX
from ntmobile.lab.waiting import PATIENCE_S, wait_until

DIRECTORY = "/etc/lab-dns"
SERVER_NAME = "ns.lab."
TTL_S = 60
NEGATIVE_TTL_S = 1

START_S = 60.0
TRY_S = 0.05

CONFIGURATION = """
key lab {{ algorithm hmac-sha256; secret "bGFi"; }};
controls {{ inet 127.0.0.1 allow {{ 127.0.0.1; }} keys {{ lab; }}; }};
options {{
  directory "{directory}";
  pid-file none;
  session-keyfile none;
  listen-on {{ any; }};
  listen-on-v6 {{ any; }};
  recursion yes;
  key-directory "{directory}";
  allow-query {{ any; }};
  allow-recursion {{ any; }};
  dnssec-validation no;
  empty-zones-enable no;
  servfail-ttl 0;
  dns64 {prefix} {{ clients {{ {inside}; }}; }};
}};
{zones}
"""
ZONE = 'zone "{name}" {{ type primary; file "{file}"; allow-update {{ 127.0.0.1; }}; {more}}};'
SIGNED = "dnssec-policy default; "
RNDC = """
key lab { algorithm hmac-sha256; secret "bGFi"; };
options { default-key lab; default-server 127.0.0.1; };
"""


class ParentDns:
    """Zones that delegate to name servers elsewhere, and a resolver that follows."""

    def __init__(
        self, host: Host, zones: Mapping[str, Iterable[str]], *, signed: bool = False
    ) -> None:
        """Serve `zones` on `host`; raises LabError if BIND refuses them."""
        self.host = host
        self._signed = signed
        self._zones = {_absolute(name): list(lines) for name, lines in zones.items()}
        self._write_files()
        # BIND itself would start without the zone that is wrong.
        host.run(["named-checkconf", "-z", f"{DIRECTORY}/named.conf"])
        named = ["named", "-f", "-n", "1", "-c", f"{DIRECTORY}/named.conf"]
        self._named = host.popen([*named, "-L", f"{DIRECTORY}/log"])
        self._await_ready()
        if signed:
            self.add(*(self.digest(name) for name in self._zones if name != "."))

    @property
    def addresses(self) -> list[str]:
        """The addresses of the server, IPv4 first."""
        uplink = self.host.uplink
        return [str(own.ip) for own in (uplink.ipv4, uplink.ipv6) if own is not None]

    def digest(self, zone: str = ".") -> str:
        """The DS record of a zone; of the root: the trust anchor. Raises LabError if unsigned."""
        name = dns.name.from_text(_absolute(zone))
        answer = self._ask(dns.message.make_query(name, dns.rdatatype.DNSKEY), PATIENCE_S)
        for rrset in answer.answer:
            for key in rrset:
                return f"{name} {TTL_S} IN DS {dns.dnssec.make_ds(name, key, 'SHA256')}"
        raise LabError(f"{name} is not signed")

    def add(self, *records: str) -> None:
        """Add records, given as master-file lines, to the zones they belong to."""
        for rrset in self._parse(records):
            update = dns.update.UpdateMessage(self._zone_of(rrset.name.to_text(), rrset.rdtype))
            update.add(rrset.name, rrset)
            self._apply(update)

    def replace(self, *records: str) -> None:
        """Like add, but in place of the records of the same name and type."""
        for rrset in self._parse(records):
            update = dns.update.UpdateMessage(self._zone_of(rrset.name.to_text(), rrset.rdtype))
            update.replace(rrset.name, rrset)
            self._apply(update)

    def remove(self, name: str, kind: str) -> None:
        """Remove the records of one type of an absolute name."""
        update = dns.update.UpdateMessage(
            self._zone_of(_absolute(name), dns.rdatatype.from_text(kind))
        )
        update.delete(_absolute(name), kind)
        self._apply(update)

    def flush(self) -> None:
        """Make the resolver forget what it learned from other servers."""
        self.host.run(["rndc", "-c", f"{DIRECTORY}/rndc.conf", "flush"])

    def log(self) -> str:
        """Return BIND's log, from where it was ready if it was."""
        whole = self.host.path(f"{DIRECTORY}/log").read_text()
        return whole.partition(" running\n")[2] or whole

    def stop(self) -> None:
        """End the server, as in an outage."""
        self._named.terminate()
        self._named.wait(timeout=60)

    def _write_files(self) -> None:
        directory = self.host.path(DIRECTORY)
        directory.mkdir()
        root = [line for name in self._zones if name != "." for line in [_ns(name)]]
        root += [_address(address) for address in self.addresses]
        contents = {".": [*root, *self._zones.get(".", ())]}
        contents |= {n: lines for n, lines in self._zones.items() if n != "."}
        clauses = []
        for number, (name, lines) in enumerate(contents.items()):
            file = f"zone{number}"
            (directory / file).write_text(_zone_text(name, lines))
            more = SIGNED if self._signed else ""
            clauses.append(ZONE.format(name=name, file=file, more=more))
        text = CONFIGURATION.format(
            directory=DIRECTORY, zones="\n".join(clauses), prefix=PREFIX, inside=INSIDE
        )
        (directory / "named.conf").write_text(text)
        (directory / "rndc.conf").write_text(RNDC)

    def _await_ready(self) -> None:
        try:
            for name in dict.fromkeys((".", *self._zones)):
                wait_until(partial(self._is_ready, name), f"the zone {name}", START_S)
        except LabError as error:
            raise LabError(f"BIND does not answer: {error}\n{self.log()}") from None

    def _is_ready(self, zone: str) -> bool:
        if self._named.poll() is not None:
            raise LabError("it ended")
        kind = dns.rdatatype.NSEC if self._signed else dns.rdatatype.SOA
        question = dns.message.make_query(zone, kind, want_dnssec=self._signed)
        try:
            answer = self._ask(question, TRY_S)
        except dns.exception.Timeout:
            return False
        # Records and their signature.
        return len(answer.answer) == 1 + self._signed

    def _ask(self, message: dns.message.Message, timeout_s: float) -> dns.message.Message:
        with self.host.socket() as socket:
            socket.setblocking(False)
            return dns.query.udp(message, "127.0.0.1", timeout_s, sock=socket)

    def _parse(self, records: Iterable[str]) -> list[dns.rrset.RRset]:
        text = "\n".join(records) + "\n"
        return list(dns.zonefile.read_rrsets(text, default_ttl=TTL_S, rdclass=None))

    def _zone_of(self, name: str, kind: dns.rdatatype.RdataType) -> str:
        parts = name.rstrip(".").split(".")
        # A DS record is the one at a zone's name that the zone above has.
        for start in range(kind == dns.rdatatype.DS, len(parts)):
            candidate = ".".join(parts[start:]) + "."
            if candidate in self._zones:
                return candidate
        return "."

    def _apply(self, update: dns.update.UpdateMessage) -> None:
        answer = self._ask(update, PATIENCE_S)
        if answer.rcode() != dns.rcode.NOERROR:
            raise LabError(f"update refused: {dns.rcode.to_text(answer.rcode())}")


def _absolute(name: str) -> str:
    return name if name.endswith(".") else f"{name}."


def _ns(zone: str) -> str:
    return f"{zone} {TTL_S} IN NS {SERVER_NAME}"


def _address(address: str) -> str:
    kind = "AAAA" if ":" in address else "A"
    return f"{SERVER_NAME} {TTL_S} IN {kind} {address}"


def _zone_text(name: str, lines: Iterable[str]) -> str:
    soa = f"{SERVER_NAME} hostmaster.lab. 1 60 60 3600 {NEGATIVE_TTL_S}"
    head = [f"$TTL {TTL_S}", f"{name} IN SOA {soa}", _ns(name)]
    return "\n".join([f"$ORIGIN {name}", *head, *lines]) + "\n"
