"""`ntm server`: makes the directory of a domain's servers and shows it."""

import asyncio
from pathlib import Path
from random import SystemRandom
from typing import Annotated, TypeVar

import typer

from ntmobile.cli.node_output import JsonOption, command, note, show, show_json
from ntmobile.config import ADDRESS, DOMAIN, Kind, one_of
from ntmobile.errors import Remedy
from ntmobile.runtime.clock import Clock
from ntmobile.servers.config import Addresses, RelayPorts, Role, ServerConfig, ServerSettings
from ntmobile.servers.files import ServerDirectory
from ntmobile.servers.init import initialise, refuse_used
from ntmobile.servers.lone_directory import make_lone_directory
from ntmobile.servers.push_settings import PushSettings, WebPushSettings
from ntmobile.servers.view import ServerView, view
from ntmobile.servers.zone_check import Free, Taken, Unknown, examine

T = TypeVar("T")
Directory = Annotated[Path, typer.Argument(metavar="DIR", help="Directory of the servers.")]
VAPID_FILE = "vapid.key"
APP = typer.Typer(help="Make and show the servers of a domain.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add `ntm server` to the program."""
    app.add_typer(APP, name="server")


@APP.command("init")
@command
def init(
    directory: Directory,
    domain: Annotated[str, typer.Option(help="The zone of the nodes: ntm.example.org")],
    address: Annotated[list[str], typer.Option(help="Where the servers answer; repeat it.")],
    rs_address: Annotated[
        list[str] | None,
        typer.Option(help="Where RS answers, on a machine of its own; repeat it."),
    ] = None,
    roles: Annotated[str, typer.Option(help="Which servers run here.")] = "as,dc,ns,rs",
    whole_zone: Annotated[
        bool, typer.Option("--whole-zone", help="Take over a zone that holds other records.")
    ] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Do not look the zone up in the DNS.")
    ] = False,
) -> None:
    """Make the servers of a domain; prints the records for the parent zone."""
    settings = ServerConfig(
        server=ServerSettings(
            domain=_parsed(DOMAIN, domain, "--domain"),
            addresses=_addresses(address, "--address"),
            roles=tuple(
                dict.fromkeys(_parsed(_ROLE, r.strip(), "--roles") for r in roles.split(","))
            ),
            whole_zone=whole_zone,
        ),
        rs=RelayPorts(addresses=_addresses(rs_address or [], "--rs-address")),
        # Unlike FCM and APNs, Web Push needs no account with anybody.
        push=PushSettings(web=WebPushSettings(vapid_key=VAPID_FILE)),
    )
    refuse_used(directory)
    if not whole_zone and not offline:
        _refuse_taken(settings)
    now_s = int(Clock().wall())
    made = asyncio.run(initialise(directory, settings, entropy=SystemRandom(), now_s=now_s))
    _report(made, settings)


@APP.command("show")
@command
def show_(directory: Directory, json: JsonOption = False) -> None:
    """Show a domain's names, keys, addresses and records."""
    shown = view(ServerDirectory(directory))
    if json:
        show_json(shown)
        return
    for name, value in _lines(shown):
        show(f"{name:<16} {value}")


_OUT = typer.Argument(metavar="OUT", help="The directory to make.")


@APP.command("relay")
@command
def relay(
    directory: Directory,
    name: Annotated[str, typer.Argument(help="Which RS: rs, or the name of a [[relay]].")],
    out: Annotated[Path, _OUT],
) -> None:
    """Make the directory of an RS on a machine of its own, without the domain's secrets."""
    _make_lone(directory, Role.RS, name, out)


@APP.command("notifier")
@command
def notifier(
    directory: Directory,
    name: Annotated[str, typer.Argument(help="Which NS: ns, or the name of a [[notifier]].")],
    out: Annotated[Path, _OUT],
) -> None:
    """Make the directory of an NS on a machine of its own, without the domain's secrets."""
    _make_lone(directory, Role.NS, name, out)


def _make_lone(directory: Path, role: Role, name: str, out: Path) -> None:
    now_s = int(Clock().wall())
    main = ServerDirectory(directory)
    site = make_lone_directory(main, role, name, out, entropy=SystemRandom(), now_s=now_s)
    note(f"made {out} for {name}; next:")
    note(f"  1. copy it to the machine that has {', '.join(map(str, site.addresses))}")
    note("  2. there: ntm serve DIRECTORY")
    if role is Role.NS:
        note(f"  3. open port {site.udp}, TCP for nodes and UDP for the DC, and TCP {site.https}")
    else:
        note(f"  3. open UDP {site.udp}, and TCP {site.https} for nodes whose network lets no UDP")
        note("     pass and for the DC")
    note("  4. here, if it is new: kill -HUP the process of ntm serve")


_ROLE = one_of(Role)


def _parsed(kind: Kind[T], value: str, option: str) -> T:
    try:
        return kind.parse(value)
    except ValueError:
        raise typer.BadParameter(f"{value!r}; allowed: {kind.allowed}", param_hint=option) from None


def _addresses(values: list[str], option: str) -> Addresses:
    return tuple(dict.fromkeys(_parsed(ADDRESS, each, option) for each in values))


def _refuse_taken(settings: ServerConfig) -> None:
    domain = settings.domain
    match examine(domain, settings.name_of(Role.DC)):
        case Taken(records):
            shown = "".join(f"\n  {record}" for record in records)
            raise Remedy(
                f"{domain} is in use for something else:{shown}",
                remedy=f"nothing was made; take a zone of its own (--domain ntm.{domain}), or let "
                "the DC serve this one with all its records (--whole-zone)",
            )
        case Unknown(reason):
            note(f"ntm: warning: could not look up {domain} ({reason})")
            note("     if the zone has MX, A or NS records of its own, choose another one")
        case Free():
            pass


def _report(directory: ServerDirectory, settings: ServerConfig) -> None:
    shown = view(directory)
    for record in shown.records:
        show(record)
    path = directory.path
    note(f"made {path} for {shown.domain}")
    note("next:")
    note("  1. add the records above to the parent zone (at the registrar: name server, glue, DS)")
    note(f"  2. ntm admin --server {path} user add NAME")
    note(f"  3. ntm serve {path}")
    note(f"  4. on each machine: ntm up NAME@{shown.domain} --name MACHINE --ca {path}/ca.pem")
    note(f"     or instead of --ca: --fingerprint {shown.tls_fingerprint}")
    note(f"other domains pin this one with: --key {shown.domain_key}")
    if settings.server.whole_zone:
        note(f"records of the zone that are not NTMobile's go into {directory.zone_file}")
    for warning in _warnings(settings):
        note(f"ntm: warning: {warning}")


def _warnings(settings: ServerConfig) -> list[str]:
    return [
        f"{address} is not reachable from the Internet"
        for address in settings.addresses
        if not address.is_global
    ]


def _lines(shown: ServerView) -> list[tuple[str, str]]:
    ports = [
        f"{role} {transport} {port}"
        for role, listeners in shown.ports.items()
        for transport, port in listeners.items()
    ]
    return [
        ("domain", shown.domain),
        ("domain key", shown.domain_key),
        ("TLS fingerprint", shown.tls_fingerprint),
        ("roles", ", ".join(shown.roles)),
        *((("address", f"{name} at {', '.join(at)}")) for name, at in shown.servers.items()),
        ("ports", ", ".join(ports)),
        ("federation", shown.federation),
        ("Web Push key", shown.web_push_key or "none: there is no [push.web] in server.toml"),
        ("DNSSEC", "signed" if shown.signed else "not signed: there is no zone.key here"),
        *(("record", record) for record in shown.records),
    ]
