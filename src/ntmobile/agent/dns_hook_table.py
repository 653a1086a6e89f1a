"""The DNS hook in the packet path: queries leaving this network namespace go to the stub instead.

An nftables table redirects UDP and TCP port 53 to a port of the stub on loopback. The table has
``flags owner``: it belongs to the netlink socket that made it, nobody else can change or flush
it, and the kernel removes it when that socket closes, so also when the agent is killed.

Several agents in one namespace form a chain. Each claims a level, from 1; a packet carries in its
mark the level of the agent that sent it (0: an application), and the table of level n redirects
only what comes from a higher level or from an application, which the highest level sees first.
So a query goes down the chain once and then out, whoever started or died in between.

Let pass: iterative queries (recursion not desired), which a recursive server on this machine
sends; nobody looks up a peer that way. And queries to a resolver's link-local address: the kernel
finds no way back from ::1 to the link-local source that the application's socket has by then;
where all resolvers are such, the agent uses `ResolvConf`.
"""

from types import TracebackType
from typing import Self

from ntmobile.agent.nft import Nft
from ntmobile.errors import Remedy

MARK = 0x4E54_0000
MARK_MASK = 0xFFFF_FFF0
LEVELS = 15
TABLE = "ntmobile-dns-{level}"
PRIORITY = -100
"""NF_IP_PRI_NAT_DST; each level runs one earlier than the level below it."""
RAW = -300
"""NF_IP_PRI_RAW: before the kernel looks up the flow that a packet belongs to."""
ZONE = 0x4E50
"""And the level: the connection tracking zone in which an agent's own queries are remembered."""

_CLAIM = """
create table inet {table} {{ flags owner; }}
add chain inet {table} output {{ type nat hook output priority {priority}; }}
add rule inet {table} output udp dport 0 redirect to :1
"""
"""The rule matches nothing: it proves now that the kernel can redirect."""
_APART = """
create chain inet {table} own {{ type filter hook output priority {raw}; }}
add rule inet {table} own meta mark {mark:#x} ct original zone set {zone}
"""
"""Of a flow only the first packet meets the redirect. Where a program's query comes from a port
that the agent had a moment ago, it would go on to the server as the agent's did, unanswered for a
node. So the agent's queries are flows apart; their answers are found as ever, by any firewall."""
_REDIRECT = """
flush chain inet {table} output
add rule inet {table} output meta mark & {mask:#x} == {mark:#x} meta mark & 0xf <= {level} return
add rule inet {table} output ip6 daddr fe80::/10 return
add rule inet {table} output udp dport 53 @th,80,8 & 0x01 == 0x00 return
add rule inet {table} output meta l4proto {{ tcp, udp }} th dport 53 redirect to :{port}
"""


class HookUnavailable(Remedy):
    """This system cannot redirect DNS queries in the packet path."""


class OwnerTable:
    """A level of the chain from entering the context, and a redirect from `redirect` on."""

    def __init__(self) -> None:
        """Claims nothing yet."""
        self._nft: Nft | None = None
        self._level = 0

    @property
    def level(self) -> int:
        """Place in the chain, 1 to 15; 0 outside the context."""
        return self._level

    @property
    def mark(self) -> int:
        """SO_MARK of the agent's own queries, which are not redirected to itself."""
        return MARK | self._level

    @property
    def table(self) -> str:
        """Name of the table, in family inet."""
        return TABLE.format(level=self._level)

    def redirect(self, port: int) -> None:
        """Sends queries to 127.0.0.1 and ::1 at port from now; raises HookUnavailable."""
        assert self._nft is not None, "redirect is for inside the context"
        problem = self._nft.run(
            _REDIRECT.format(
                table=self.table,
                mask=MARK_MASK,
                mark=MARK,
                level=self._level,
                port=port,
            )
        )
        if problem:
            raise _unavailable(problem)

    def __enter__(self) -> Self:
        """Claims the lowest free level; raises HookUnavailable."""
        try:
            nft = Nft()
        except OSError as error:
            raise HookUnavailable(
                f"libnftables cannot be loaded: {error}",
                remedy="install the package nftables, or let the agent use /etc/resolv.conf",
            ) from None
        try:
            self._level = _claim(nft)
        except HookUnavailable:
            nft.close()
            raise
        # A kernel without zones refuses: there a query in thousands is not redirected.
        nft.run(_APART.format(table=self.table, raw=RAW, mark=self.mark, zone=ZONE | self._level))
        self._nft = nft
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Removes the table."""
        if self._nft is not None:
            self._nft.close()
            self._nft = None
            self._level = 0


def _claim(nft: Nft) -> int:
    for level in range(1, LEVELS + 1):
        name = TABLE.format(level=level)
        if nft.has_table(name):
            continue
        problem = nft.run(_CLAIM.format(table=name, priority=PRIORITY - level))
        if not problem:
            return level
        # Permission is denied both to those who lack it and for a table that another agent made
        # just now.
        if not nft.has_table(name):
            raise _unavailable(problem)
    raise HookUnavailable(
        f"{LEVELS} agents already hook DNS in this network namespace",
        remedy="end one of them with: ntm --state DIR down",
    )


def _unavailable(problem: str) -> HookUnavailable:
    return HookUnavailable(
        f"nftables refused the DNS redirect: {problem}",
        remedy="run the agent as root on Linux 5.12 or later, or let it use /etc/resolv.conf",
    )
