"""The commands that show something: `ntm status`, `peers`, `keys`, `trace`, `handovers` ..."""

from typing import Annotated

import msgspec
import typer

from ntmobile import __version__
from ntmobile.agent.requests import (
    AskBugReport,
    AskDns,
    AskHandovers,
    AskKeys,
    AskPeers,
    AskStatus,
    AskTrace,
    Whois,
)
from ntmobile.agent.views import (
    BugReport,
    CertificateView,
    DnsView,
    HandoverPathView,
    HandoversView,
    KeepAliveView,
    KeysView,
    PeerStatus,
    PeersView,
    StatusView,
    TraceView,
    WhoisView,
)
from ntmobile.cli.node_output import (
    IdentityOption,
    JsonOption,
    StateOption,
    ask,
    bytes_text,
    command,
    lifetime_text,
    milliseconds,
    note,
    show,
    show_json,
    show_table,
)
from ntmobile.cli.trace import WithOption, chart, read_witnesses
from ntmobile.proto.testimony import Witness


@command
def status(
    identity: IdentityOption = None, state: StateOption = None, json: JsonOption = False
) -> None:
    """Show who this node is, the health of its servers, and every peer with its path."""
    view = ask(state, AskStatus(identity=identity), StatusView)
    show_json(view) if json else show_status(view)


def show_status(view: StatusView) -> None:
    """Print a status for a person; of several identities, one after the other."""
    for number, each in enumerate(view.identities or (view,)):
        if number:
            show("")
        _show_one(each)


def _show_one(view: StatusView) -> None:
    show(f"{view.fqdn or 'not logged in'}: {view.state}")
    for address in (view.virtual_ipv4, view.virtual_ipv6):
        if address:
            show(f"  {address}")
    for reason in view.reasons:
        show(f"  ! {reason}")
    for notice in view.notices:
        show(f"  {notice}")
    for server in view.servers:
        mark = "ok" if server.healthy else "no"
        show(f"  {server.role} {server.name} [{mark}] {server.detail}".rstrip())
    if view.certificate is not None:
        show(f"  certificate {_certificate(view.certificate)}")
    for refused in view.refused:
        show(f"  ! {refused.fqdn} refused: {refused.detail}")
    if view.keepalive is not None:
        show(f"  reached by {_reached(view.keepalive)}")
    if view.dns is not None:
        show(f"  names by {view.dns}")
    if view.peers:
        show("")
        show_table(
            ("PEER", "ADDRESS", "KNOWN BY", "PATH", "RTT", "SENT", "RECEIVED"),
            [_peer_row(peer) for peer in view.peers],
        )


def _reached(keepalive: KeepAliveView) -> str:
    """How the DC reaches this node, and why not as it was told to."""
    ways = {"udp": "UDP", "tcp": f"TCP through {keepalive.server}", "push": "push"}
    text = ways[keepalive.now]
    if keepalive.interval_s:
        text += f", a keep-alive every {keepalive.interval_s} s"
    if keepalive.chosen == "auto":
        text += f" (auto: {_measured(keepalive.mapping_s, keepalive.mapping_dead_s)})"
    return text if keepalive.problem is None else f"{text} ! {keepalive.problem}"


def _measured(alive_s: int | None, dead_s: int | None) -> str:
    if alive_s is None:
        return "this network is being measured, which takes up to five minutes"
    return f"life of an idle UDP mapping here: {lifetime_text(alive_s, dead_s)}"


def _peer_row(peer: PeerStatus) -> tuple[str, ...]:
    path = f"{peer.path.kind} {peer.path.remote}" if peer.path else "waiting for a path"
    if peer.path and peer.path.websocket:
        path += " by WebSocket"
    rtt = milliseconds(peer.path.rtt_ms if peer.path else None)
    return (
        peer.fqdn,
        peer.virtual_ipv4,
        peer.authenticated,
        path,
        rtt,
        bytes_text(peer.tx_bytes),
        bytes_text(peer.rx_bytes),
    )


def _certificate(certificate: CertificateView) -> str:
    alone = "renewed alone" if certificate.renewed else "of no use: this node was revoked"
    whose = "given" if certificate.given else alone
    return f"until {certificate.ends} by {certificate.issuer} ({whose})"


@command
def peers(
    identity: IdentityOption = None, state: StateOption = None, json: JsonOption = False
) -> None:
    """List every peer this node has met, with its pinned key."""
    view = ask(state, AskPeers(identity=identity), PeersView)
    if json:
        show_json(view)
        return
    several = any(p.identity for p in view.peers)
    rows = [
        (
            *([p.identity or ""] if several else []),
            p.fqdn,
            p.virtual_ipv4,
            p.virtual_ipv6,
            "yes" if p.connected else "no",
            "certificate" if p.certified else "device-key",
            p.peer_key,
        )
        for p in view.peers
    ]
    headers = ("PEER", "IPV4", "IPV6", "TUNNEL", "KNOWN BY", "KEY")
    show_table(("IDENTITY", *headers) if several else headers, rows)


@command
def keys(
    identity: IdentityOption = None, state: StateOption = None, json: JsonOption = False
) -> None:
    """List the keys of the paper's Table 1 that this node holds, never their bytes; whose
    certificates it believes.
    """
    view = ask(state, AskKeys(identity=identity), KeysView)
    if json:
        show_json(view)
        return
    rows = [
        (key.key, key.identifier, " ".join(key.created_by), " ".join(key.owners), key.expires)
        for key in view.keys
    ]
    show_table(("KEY", "IDENTIFIER", "CREATED BY", "OWNED BY", "EXPIRES"), rows)
    if view.certificate is not None:
        show("")
        show(f"this node's certificate: {_certificate(view.certificate)}")
    if view.authorities:
        show("")
        trusted = [(each.domain or "(given)", each.fingerprint) for each in view.authorities]
        show_table(("CA FOR", "FINGERPRINT"), trusted)


@command
def handovers(
    identity: IdentityOption = None, state: StateOption = None, json: JsonOption = False
) -> None:
    """List every handover: when and why, from where to where, and how long nothing came through.

    The newest 200 are kept, also over a restart of the agent.
    """
    view = ask(state, AskHandovers(identity=identity), HandoversView)
    if json:
        show_json(view)
        return
    several = any(move.identity for move in view.handovers)
    rows = [
        (
            *([move.identity or ""] if several else []),
            move.at,
            move.fqdn,
            move.cause,
            move.from_ or "-",
            move.to,
            f"{_way(move.before)} > {_way(move.after)}",
            milliseconds(move.outage_ms),
            str(move.resent_capsules),
        )
        for move in view.handovers
    ]
    headers = ("WHEN", "PEER", "WHY", "FROM", "TO", "PATH", "OUTAGE", "RESENT")
    show_table(("IDENTITY", *headers) if several else headers, rows)
    if view.trouble is not None:
        note(f"ntm: {view.trouble}; what is shown is in the agent's memory")


def _way(path: HandoverPathView | None) -> str:
    return "none" if path is None else f"{path.kind} {path.remote}"


@command
def whois(
    address: Annotated[str, typer.Argument(help="A virtual address.")],
    identity: IdentityOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Say which node a virtual address belongs to."""
    view = ask(state, Whois(address, identity=identity), WhoisView)
    if json:
        show_json(view)
    else:
        show(view.fqdn)
        show(f"  key {view.peer_key}" if view.peer_key else "  this node")


@command
def trace(
    fqdn: Annotated[
        str | None, typer.Argument(help="The peer; none: this node's login and registration.")
    ] = None,
    others: WithOption = None,
    identity: IdentityOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Draw how the tunnel to a node was built, message by message, as the paper's figures do.

    A node sees its own messages only. What servers and the peer saw comes in by --with.
    """
    view = ask(state, AskTrace(fqdn, identity=identity), TraceView)
    if json:
        show_json(view)
        return
    own = msgspec.convert(msgspec.to_builtins(view), Witness)
    show(f"{view.fqdn}, {view.at}")
    for line in chart([own, *read_witnesses(others or ())]):
        show(line)


@command
def dns_status(
    identity: IdentityOption = None, state: StateOption = None, json: JsonOption = False
) -> None:
    """Show how the applications' name queries reach this node, and what became of them."""
    view = ask(state, AskDns(identity=identity), DnsView)
    if json:
        show_json(view)
        return
    show(f"hook: {view.hook} ({view.detail})")
    show(f"stub: {view.stub or '-'}")
    show(f"ordinary resolvers: {', '.join(view.upstreams) or 'none'}")
    show(f"NTMobile zones: {', '.join(view.zones) or 'none'}")
    show_table(("WHAT", "COUNT"), [(name, str(n)) for name, n in sorted(view.counters.items())])


@command
def bugreport(identity: IdentityOption = None, state: StateOption = None) -> None:
    """Print what a maintainer needs to know; no key, no password."""
    show(ask(state, AskBugReport(identity=identity), BugReport).text)
    note("ntm: names and addresses are in it; read it before you send it")


@command
def version() -> None:
    """Print the version."""
    show(__version__)
