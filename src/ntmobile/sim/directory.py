"""What is publicly known of each domain: its zone, its DC, its key; and who can look it up.

Stands for DNS (NS and SRV records, served by the DC itself) and for `/.well-known/ntm`. A look-up
is an exchange with that DC over the network, so it takes its delays and fails when they fail.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ntmobile.proto.io import CoordinatorFound, Failed
from ntmobile.sim.exchange import Client
from ntmobile.sim.host import SimHost
from ntmobile.sim.internet import Internet
from ntmobile.sim.packet import Transport
from ntmobile.sim.recorder import Recorder
from ntmobile.time import SECOND, Instant
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.registration import Reason

DNS_PORT = 53
HTTPS_PORT = 443
TTL_NS = 300 * SECOND

Found = Callable[[CoordinatorFound | Failed], None]


@dataclass(frozen=True, slots=True)
class Domain:
    """One operator's domain as the world sees it."""

    name: str
    key: bytes
    """Ed25519 public key."""
    coordinator: str
    """FQDN of its DC, which is also the name of the DC's host."""
    endpoints: tuple[Endpoint, ...]
    """Where the DC takes datagrams."""
    authorities: tuple[bytes, ...] = ()
    """The CAs of its nodes, in DER, as its key states them."""


class Directory:
    """All domains there are; the same for everyone."""

    def __init__(self) -> None:
        """No domain yet."""
        self._domains: dict[str, Domain] = {}

    def publish(self, domain: Domain) -> None:
        """Delegate the zone, or change what it says."""
        self._domains[domain.name] = domain

    def domain(self, name: str) -> Domain | None:
        """Return a domain by its own name."""
        return self._domains.get(name)

    def enclosing(self, fqdn: str) -> Domain | None:
        """Return the domain with the closest zone above a name."""
        labels = fqdn.split(".")
        zones = (".".join(labels[cut:]) for cut in range(len(labels)))
        return next((self._domains[zone] for zone in zones if zone in self._domains), None)


def reachable(host: SimHost, endpoints: tuple[Endpoint, ...], port: int) -> Endpoint:
    """Return the first of the endpoints in a family the host speaks, at another port."""
    spoken = [end for end in endpoints if host.source_for(end.version) is not None]
    return Endpoint((spoken or list(endpoints))[0].host, port)


class Resolver:
    """Finds DCs for one host: NS records by DNS, then the domain's key over HTTPS; both cached.

    `distrusted` domains fail as those whose key does not validate.
    """

    def __init__(
        self,
        internet: Internet,
        recorder: Recorder,
        host: SimHost,
        directory: Directory,
        https: Client,
    ) -> None:
        """Asks over DNS from a port of its own, and over the connections of https."""
        self.distrusted: set[str] = set()
        self._internet = internet
        self._recorder = recorder
        self._host = host
        self._directory = directory
        self._https = https
        entropy = internet.entropy.fork(f"resolver {host.name} {internet.now}")
        self._dns = Client(host, internet.calendar, entropy, transport=Transport.UDP, handshake=0)
        self._fresh_until: dict[str, Instant] = {}

    def find(self, fqdn: str, found: Found) -> None:
        """Look up the DC of a name; found is called once, maybe at once."""
        domain = self._directory.enclosing(fqdn)
        if domain is None:
            found(Failed(Reason.UNKNOWN_NAME, f"no zone above {fqdn}"))
        elif domain.name in self.distrusted:
            found(Failed(Reason.DOMAIN_KEY, f"the key of {domain.name} does not validate"))
        elif self._internet.now < self._fresh_until.get(domain.name, Instant(0)):
            found(CoordinatorFound(domain.name, domain.endpoints))
        else:
            self._ask(domain, found)

    def close(self) -> None:
        """End with the process."""
        self._dns.close()

    def _ask(self, domain: Domain, found: Found) -> None:
        asked = self._internet.now

        def named(body: bytes | None) -> None:
            if body is None:
                found(Failed(Reason.DOMAIN_UNREACHABLE, f"no DNS answer for {domain.name}"))
                return
            half = Instant((asked + self._internet.now) // 2)
            self._note("NS Query", self._host.name, domain.coordinator, asked, half)
            self._note("NS Answer", domain.coordinator, self._host.name, half, self._internet.now)
            to = reachable(self._host, domain.endpoints, HTTPS_PORT)
            self._https.ask(to, b"GET /.well-known/ntm", stated)

        def stated(body: bytes | None) -> None:
            if body is None:
                found(Failed(Reason.DOMAIN_UNREACHABLE, f"{domain.coordinator} is silent"))
            elif body != domain.key:
                found(Failed(Reason.DOMAIN_KEY, f"another key than {domain.name}'s"))
            else:
                self._fresh_until[domain.name] = Instant(self._internet.now + TTL_NS)
                found(CoordinatorFound(domain.name, domain.endpoints))

        to = reachable(self._host, domain.endpoints, DNS_PORT)
        self._dns.ask(to, f"NS {domain.name}".encode(), named)

    def _note(self, what: str, sender: str, to: str, sent: Instant, arrived: Instant) -> None:
        self._recorder.take_call(what, sender, to, sent, arrived, "DNS")
