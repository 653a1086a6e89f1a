"""One operator: a domain with its AS, DC and RS, each on a host of its own."""

from dataclasses import replace
from ipaddress import IPv4Network

from ntmobile.keys.certificates import make_ca
from ntmobile.keys.identity import public_of
from ntmobile.proto.coordinator.policy import Federation, Policy
from ntmobile.proto.coordinator.settings import CoordinatorSettings, Notifier, Relay
from ntmobile.proto.io import random_bytes
from ntmobile.proto.relay.memory import Record
from ntmobile.sim.directory import Directory, Domain
from ntmobile.sim.host import SimHost
from ntmobile.sim.internet import EPOCH_S, Internet
from ntmobile.sim.network import Network
from ntmobile.sim.push import PushService
from ntmobile.sim.recorder import Recorder
from ntmobile.sim.server import SIGNALLING_PORT
from ntmobile.sim.servers import (
    Accounts,
    AccountServer,
    CoordinatorServer,
    NotificationHolder,
    Registrations,
    RelayForwarder,
)
from ntmobile.sim.web import Signer
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.identity import Authentication

KNTMDC_S = 86400


class Organisation:
    """Its servers run from the start; `restart_*` kills one and starts it from what was stored."""

    def __init__(
        self,
        internet: Internet,
        recorder: Recorder,
        directory: Directory,
        domain: str,
        *,
        network: Network | None = None,
        policy: Policy | None = None,
        relays: int = 1,
        relay_networks: tuple[Network, ...] = (),
        notifiers: int = 0,
        ipv4_pool: str = "100.64.0.0/10",
        kntmdc_s: int = KNTMDC_S,
        certificates: bool = False,
        trusted: tuple[bytes, ...] = (),
        authentication: Authentication = Authentication.DEVICE_KEY,
    ) -> None:
        """Builds as.DOMAIN, dc.DOMAIN, rs.DOMAIN (rs2, ...), ns.DOMAIN on the core unless told.

        Where relay_networks are told there is one RS in each, in the operator's order.
        With certificates it has a CA, and gives every node one at its login; trusted are further
        CAs of its nodes, in DER; authentication is what it has its nodes ask of their peers.
        """
        self.domain = domain
        self._internet = internet
        self._recorder = recorder
        self._directory = directory
        self._kntmdc_s = kntmdc_s
        self.push = PushService(internet.calendar)
        """The push service of this operator's phones."""
        entropy = internet.entropy.fork(f"domain {domain}")
        self.signer = Signer(domain, random_bytes(entropy, 32))
        self.accounts = Accounts(domain, trusted=trusted)
        self._authentication = authentication
        if certificates:
            secret = random_bytes(entropy, 32)
            self.accounts.ca = make_ca(domain, (), serial=1, now_s=EPOCH_S, secret=secret)
        self.registrations = Registrations()
        self.policy = policy or Policy(domain, Federation.OPEN)
        places = relay_networks or (network,) * relays
        self._relay_hosts = _hosts(internet, "rs", domain, places)
        self._notifier_hosts = _hosts(internet, "ns", domain, (network,) * notifiers)
        self.settings = CoordinatorSettings(
            domain,
            tuple(Relay(host.name, endpoints(host)) for host in self._relay_hosts),
            ipv4_pool=IPv4Network(ipv4_pool),
            notifiers=tuple(Notifier(host.name, endpoints(host)) for host in self._notifier_hosts),
        )
        dc = internet.host(f"dc.{domain}", network)
        key = public_of(self.signer.private)
        stated = self.accounts.cas
        directory.publish(Domain(domain, key, dc.name, endpoints(dc), stated))
        self.coordinator = self._start_coordinator(dc)
        self.account = self._start_account(internet.host(f"as.{domain}", network))
        self.relays = [self._start_relay(host, []) for host in self._relay_hosts]
        self.notifiers = [self._start_notifier(host) for host in self._notifier_hosts]

    @property
    def relay(self) -> RelayForwarder:
        """The first RS."""
        return self.relays[0]

    @property
    def notifier(self) -> NotificationHolder:
        """The first NS."""
        return self.notifiers[0]

    @property
    def account_endpoints(self) -> tuple[Endpoint, ...]:
        """Where its AS is."""
        return endpoints(self.account.host)

    def add_user(self, user: str, password: str) -> None:
        """Let a user log nodes in."""
        self.accounts.passwords[user] = password

    def restart_coordinator(self) -> None:
        """Kill the DC and start it from what it stored."""
        self.coordinator.kill()
        self.coordinator = self._start_coordinator(self.coordinator.host)

    def restart_account(self) -> None:
        """Kill the AS and start it again."""
        self.account.kill()
        self.account = self._start_account(self.account.host)

    def restart_relay(self, number: int = 0, *, forgets: bool = False) -> None:
        """Kill an RS and start it again; one that forgets has lost its disk."""
        before = self.relays[number]
        before.kill()
        records = [] if forgets else before.records
        self.relays[number] = self._start_relay(before.host, records)

    def restart_notifier(self, number: int = 0, *, silently: bool = False) -> None:
        """Kill an NS and start it again: it knows no node."""
        self.notifiers[number].kill(silently=silently)
        self.notifiers[number] = self._start_notifier(self.notifiers[number].host)

    def use_notifiers(self, *numbers: int) -> None:
        """Make the DC use only these NS, now and after restarts, as `kill -HUP` does."""
        hosts = [self._notifier_hosts[number] for number in numbers]
        chosen = tuple(Notifier(host.name, endpoints(host)) for host in hosts)
        self.settings = replace(self.settings, notifiers=chosen)
        self.coordinator.call(lambda now: self.coordinator.machine.set_notifiers(chosen, now))

    def set_policy(self, policy: Policy) -> None:
        """Make the DC go by another policy, now and after restarts."""
        self.policy = policy
        self.coordinator.call(lambda now: self.coordinator.machine.set_policy(policy, now))

    def revoke(self, fqdn: str) -> None:
        """Revoke a node at AS and DC."""
        self.accounts.revoked.add(fqdn)
        self.set_policy(replace(self.policy, revoked=self.policy.revoked | {fqdn}))

    def _start_coordinator(self, host: SimHost) -> CoordinatorServer:
        return CoordinatorServer(
            self._internet,
            self._recorder,
            host,
            self._directory,
            self.signer,
            self.settings,
            self.policy,
            self.registrations,
            self.push,
        )

    def _start_account(self, host: SimHost) -> AccountServer:
        return AccountServer(
            self._internet,
            self._recorder,
            host,
            self._directory,
            self.signer,
            self.accounts,
            public_of(self.signer.private),
            self._kntmdc_s,
            self._authentication,
        )

    def _start_notifier(self, host: SimHost) -> NotificationHolder:
        return NotificationHolder(
            self._internet, self._recorder, host, self._directory, self.signer
        )

    def _start_relay(self, host: SimHost, records: list[Record]) -> RelayForwarder:
        return RelayForwarder(
            self._internet, self._recorder, host, self._directory, self.signer, records
        )


def endpoints(host: SimHost) -> tuple[Endpoint, ...]:
    """Return where a server takes datagrams: one endpoint a family."""
    places = (host.source_for(version) for version in (4, 6))
    return tuple(Endpoint(place[1], SIGNALLING_PORT) for place in places if place is not None)


def _hosts(
    internet: Internet, label: str, domain: str, places: tuple[Network | None, ...]
) -> list[SimHost]:
    """Hosts in these networks: rs.DOMAIN, rs2.DOMAIN, and so on."""
    numbers = ("", *range(2, len(places) + 1))
    pairs = zip(numbers, places, strict=False)
    return [internet.host(f"{label}{number}.{domain}", place) for number, place in pairs]
