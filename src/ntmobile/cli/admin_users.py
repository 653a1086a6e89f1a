"""`ntm admin user`, `node`, `key`, `certificate`: who may log in."""

import sys
from datetime import timedelta
from getpass import getpass
from pathlib import Path
from typing import Annotated

import typer

from ntmobile.cli.admin_common import Row, done, run, servers_of, show_rows, wall
from ntmobile.cli.node_output import JsonOption, command, note, show, show_json
from ntmobile.errors import Remedy
from ntmobile.keys.certificates import Credential
from ntmobile.keys.identity import fingerprint
from ntmobile.keys.node_certificates import GIVEN_LIFETIME
from ntmobile.servers.admin import Admin
from ntmobile.servers.files import write
from ntmobile.store import StoredDevice

Name = Annotated[str, typer.Argument(help="The user.")]
Node = Annotated[str, typer.Argument(metavar="FQDN", help="The node, like laptop.alice.")]
PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input.")
]

USER = typer.Typer(help="Users of the domain.", no_args_is_help=True)
NODE = typer.Typer(help="Nodes that are enrolled.", no_args_is_help=True)
KEY = typer.Typer(help="Pre-authorised keys, for machines without a person.", no_args_is_help=True)
CERTIFICATE = typer.Typer(help="Certificates of nodes.", no_args_is_help=True)


@USER.command("add")
@command
def user_add(
    context: typer.Context,
    name: Name,
    password_stdin: PasswordStdin = False,
    no_password: Annotated[
        bool, typer.Option("--no-password", help="Nodes enrol by `ntm admin key create` only.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Add a user."""
    password = None if no_password else read_password(context, name, from_stdin=password_stdin)
    run(context, lambda domain: domain.add_user(name, password, wall()))
    _say(f"added {name}", {"name": name}, json=json)


@USER.command("passwd")
@command
def user_passwd(
    context: typer.Context,
    name: Name,
    password_stdin: PasswordStdin = False,
    json: JsonOption = False,
) -> None:
    """Change a user's password; enrolled nodes stay."""
    password = read_password(context, name, from_stdin=password_stdin)
    run(context, lambda domain: domain.set_password(name, password))
    _say(f"changed the password of {name}", {"name": name}, json=json)


@USER.command("list")
@command
def user_list(context: typer.Context, json: JsonOption = False) -> None:
    """List the users."""
    rows: list[Row] = [
        {
            "name": user.name,
            "disabled": user.disabled,
            "password": user.password is not None,
            "nodes": nodes,
            "added_at": user.added_at,
        }
        for user, nodes in run(context, Admin.users)
    ]
    show_rows(rows, json=json, none="there are no users")


@USER.command("remove")
@command
def user_remove(context: typer.Context, name: Name, json: JsonOption = False) -> None:
    """Remove a user; its nodes are revoked."""
    told = run(context, lambda domain: domain.remove_user(name, wall()))
    done(f"removed {name} and revoked its nodes", told, {"name": name}, json=json)


@USER.command("disable")
@command
def user_disable(context: typer.Context, name: Name, json: JsonOption = False) -> None:
    """Shut a user's nodes out, keeping everything."""
    told = run(context, lambda domain: domain.set_disabled(name, disabled=True))
    done(f"disabled {name}", told, {"name": name}, json=json)


@USER.command("enable")
@command
def user_enable(context: typer.Context, name: Name, json: JsonOption = False) -> None:
    """Let a disabled user's nodes in again."""
    told = run(context, lambda domain: domain.set_disabled(name, disabled=False))
    done(f"enabled {name}", told, {"name": name}, json=json)


@NODE.command("list")
@command
def node_list(
    context: typer.Context,
    user: Annotated[str | None, typer.Option(help="Only this user's.")] = None,
    json: JsonOption = False,
) -> None:
    """List the nodes: who is enrolled, and how the DC reaches those that are registered."""
    nodes, ways = run(context, lambda domain: _nodes(domain, user))
    rows: list[Row] = [
        {
            "fqdn": node.fqdn,
            "user": node.user,
            "revoked": node.revoked_at is not None,
            "device_key": fingerprint(node.device),
            "tags": list(node.tags),
            "ephemeral": node.ephemeral,
            "reached_by": ways.get(node.fqdn),
            "enrolled_at": node.enrolled_at,
            "seen_at": node.seen_at,
        }
        for node in nodes
    ]
    show_rows(rows, json=json, none="there are no nodes")


async def _nodes(
    domain: Admin, user: str | None
) -> tuple[tuple[StoredDevice, ...], dict[str, str]]:
    return await domain.nodes(user), await domain.reached_by(wall())


@NODE.command("revoke")
@command
def node_revoke(context: typer.Context, fqdn: Node, json: JsonOption = False) -> None:
    """Revoke a node's device key: it is shut out at once and for ever."""
    told = run(context, lambda domain: domain.revoke(fqdn, wall()))
    done(f"revoked {fqdn}", told, {"fqdn": fqdn, "revoked": True}, json=json)


@NODE.command("allow-new-key")
@command
def node_allow_new_key(context: typer.Context, fqdn: Node, json: JsonOption = False) -> None:
    """Let the next login with the user's password bring a new device key under this name."""
    run(context, lambda domain: domain.allow_rekey(fqdn))
    text = f"the next login of {fqdn} by password may bring a new device key"
    _say(text, {"fqdn": fqdn, "rekey_allowed": True}, json=json)


@KEY.command("create")
@command
def key_create(
    context: typer.Context,
    user: Annotated[str, typer.Argument(help="Whose nodes it enrols.")],
    reusable: Annotated[bool, typer.Option("--reusable", help="For more than one node.")] = False,
    ephemeral: Annotated[
        bool, typer.Option("--ephemeral", help="Forget the nodes an hour after they are gone.")
    ] = False,
    tag: Annotated[list[str] | None, typer.Option(help="Policy group; repeat it.")] = None,
    hours: Annotated[float, typer.Option(min=0.01, help="How long it is good.")] = 24.0,
    for_ever: Annotated[bool, typer.Option("--for-ever", help="It does not expire.")] = False,
    json: JsonOption = False,
) -> None:
    """Make a key that enrols a node without a password; prints it, once."""
    lifetime_s = None if for_ever else hours * 3600
    text, key = run(
        context,
        lambda domain: domain.create_key(
            user,
            wall(),
            reusable=reusable,
            ephemeral=ephemeral,
            tags=tuple(tag or ()),
            lifetime_s=lifetime_s,
        ),
    )
    if json:
        show_json({"key": text, "id": key.id, "user": user, "expires_at": key.expires_at})
    else:
        show(text)


@KEY.command("list")
@command
def key_list(context: typer.Context, json: JsonOption = False) -> None:
    """List the pre-authorised keys, never the keys themselves."""
    rows: list[Row] = [
        {
            "id": key.id,
            "user": key.user,
            "good": key.is_good(wall()),
            "reusable": key.reusable,
            "ephemeral": key.ephemeral,
            "tags": list(key.tags),
            "expires_at": key.expires_at,
            "used_at": key.used_at,
        }
        for key in run(context, lambda domain: domain.store.authorities.list())
    ]
    show_rows(rows, json=json, none="there are no keys")


@KEY.command("remove")
@command
def key_remove(
    context: typer.Context,
    number: Annotated[int, typer.Argument(metavar="ID")],
    json: JsonOption = False,
) -> None:
    """Make a pre-authorised key worthless."""
    run(context, lambda domain: domain.remove_key(number))
    _say(f"removed key {number}; nodes that it enrolled stay", {"id": number}, json=json)


@CERTIFICATE.command("issue")
@command
def certificate_issue(
    context: typer.Context,
    user: Name,
    name: Annotated[str, typer.Option(help="The node's label.")],
    out: Annotated[Path, typer.Option(help="Directory for cert.pem and key.pem.")],
    days: Annotated[
        int, typer.Option(min=1, max=3650, help="How long the first login may take.")
    ] = GIVEN_LIFETIME.days,
    json: JsonOption = False,
) -> None:
    """Issue a certificate and its key, that let one node log in without a password."""
    lifetime = timedelta(days=days)
    fqdn, made = run(
        context,
        lambda domain: domain.issue_certificate(user, name, wall(), lifetime=lifetime),
    )
    files = write_credential(out, made)
    view: Row = {"fqdn": fqdn, "certificate": str(files[0]), "key": str(files[1])}
    text = (
        f"wrote {files[0]} and {files[1]} for {fqdn}; on that machine:\n"
        f"  ntm up {user}@{fqdn.split('.', 2)[2]} --name {name} "
        "--certificate cert.pem --key key.pem"
    )
    _say(text, view, json=json)


def write_credential(directory: Path, made: Credential) -> tuple[Path, Path]:
    """Write cert.pem and key.pem, which nobody else may read; raises Remedy."""
    files = directory / "cert.pem", directory / "key.pem"
    for file in files:
        if file.exists():
            raise Remedy(f"{file} is there already; nothing was written", remedy="--out ANOTHER")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write(files[1], made.key, private=True)
        write(files[0], made.certificate)
    except OSError as error:
        raise Remedy(
            f"cannot write to {directory}: {error.strerror}", remedy="--out ANOTHER"
        ) from None
    return files


def _say(text: str, view: Row, *, json: bool) -> None:
    """Say what was done that no running server needs to be told."""
    if json:
        show_json(view)
    else:
        note(text)


def read_password(context: typer.Context, user: str, *, from_stdin: bool) -> str:
    """Read a new password from standard input, or twice from the terminal."""
    servers_of(context)  # Nobody types a password for nothing.
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise Remedy("no terminal to ask for a password on", remedy="give --password-stdin")
    first = getpass(f"Password for {user}: ")
    if getpass("Again: ") != first:
        raise Remedy("the two passwords differ; nothing was changed", remedy="run it again")
    return first
