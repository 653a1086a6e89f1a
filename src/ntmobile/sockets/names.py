"""Names of nodes, short ones too, and their virtual addresses, as one node sees them."""

import socket
from ipaddress import ip_address

from ntmobile.agent.failures import name_failure
from ntmobile.agent.names import owner_of
from ntmobile.agent.session import Session
from ntmobile.agent.state import State
from ntmobile.proto.node.events import NameRefused
from ntmobile.proto.node.trust import domain_of
from ntmobile.sockets.errors import NameFailed
from ntmobile.wire.endpoint import Host


class Names:
    """What a node that is up knows of names."""

    def __init__(self, session: Session, state: State) -> None:
        """Asks the session's machine, which asks its DC."""
        self._session = session
        self._state = state

    @property
    def own(self) -> str:
        """The node's permanent name."""
        return self._session.account.fqdn

    @property
    def addresses(self) -> tuple[Host, Host]:
        """The node's permanent virtual addresses, IPv4 and IPv6."""
        registered = self._session.registered
        assert registered is not None, "open means registered"
        return registered.virtual_ipv4, registered.virtual_ipv6

    def full(self, host: str) -> str:
        """Return the FQDN of a name; one without a dot is another node of the same user."""
        fqdn, account = host.lower().rstrip("."), self._session.account
        return fqdn if "." in fqdn else f"{fqdn}.{account.user}.{account.domain}"

    def owner(self, address: Host) -> str | None:
        """Return the name of a virtual address's owner, as its tunnel proves it."""
        return owner_of(address, self.own, self._state.addresses, self._state.peers)

    def is_known(self, host: str) -> bool:
        """Whether a name lies in the own domain or in that of a known peer, or is a short one."""
        fqdn = host.lower().rstrip(".")
        known = {self._session.account.domain, *map(domain_of, self._state.peers)}
        return "." not in fqdn or any(fqdn.endswith(f".{domain}") for domain in known)

    async def resolve(self, host: str) -> tuple[Host, Host]:
        """Return a node's virtual addresses, IPv4 and IPv6; raises NameFailed with the reason."""
        fqdn = self.full(host)
        if fqdn == self.own:
            return self.addresses
        outcome = await self._session.names.resolve(fqdn)
        if isinstance(outcome, NameRefused):
            failure = name_failure(fqdn, outcome.reason)
            raise NameFailed(failure.problem, remedy=failure.remedy)
        return outcome.ipv4, outcome.ipv6

    async def hosts(self, host: str, family: int = 0) -> list[Host]:
        """Return the virtual addresses of a family, or of both; raises NameFailed."""
        literal = literal_of(host)
        found = (literal,) if literal is not None else await self.resolve(host)
        wanted = {0: (4, 6), socket.AF_INET: (4,), socket.AF_INET6: (6,)}.get(family, ())
        hosts = [each for each in found if each.version in wanted]
        if not hosts:
            raise NameFailed(f"{host} has no address of this family", remedy="use family=0")
        return hosts

    def is_own(self, host: str) -> bool:
        """Whether a name or address is this node's, or all of them."""
        literal = literal_of(host)
        if literal is None:
            return self.full(host) == self.own
        return literal.is_unspecified or literal in self.addresses


def literal_of(host: str) -> Host | None:
    """Return the address that a text is; None when it is a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None
