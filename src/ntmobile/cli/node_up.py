"""`ntm up`, `ntm down` and `ntm logout`."""

import getpass
import os
import re
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import typer

from ntmobile.agent.client import AgentNotRunning, Client
from ntmobile.agent.identities import ambiguous, named
from ntmobile.agent.records import Model, SavedAccount, Trust
from ntmobile.agent.requests import AskStatus, Down, Up
from ntmobile.agent.spawn import start_agent
from ntmobile.agent.state import saved_accounts
from ntmobile.agent.urls import parse_url
from ntmobile.agent.views import StatusView
from ntmobile.cli.node_output import (
    IdentityOption,
    JsonOption,
    StateOption,
    command,
    directory_of,
    note,
    show,
    show_json,
)
from ntmobile.cli.node_reach import chosen_keepalive, reached, reached_as
from ntmobile.cli.node_show import show_status
from ntmobile.cli.node_up_options import (
    AuthKeyOption,
    CaOption,
    CertificateOption,
    FingerprintOption,
    ForegroundOption,
    KeepaliveOption,
    KeyOption,
    ModelOption,
    NameOption,
    PasswordOption,
    PushOption,
    ServerOption,
    WhoArgument,
)
from ntmobile.errors import Remedy
from ntmobile.keys.identity import public_of
from ntmobile.keys.node_certificates import read_device_credential
from ntmobile.proto.node.credentials import folded

MAX_PASSWORD = 1024
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@command
def up(
    who: WhoArgument = None,
    name: NameOption = None,
    password_stdin: PasswordOption = False,
    auth_key: AuthKeyOption = None,
    server: ServerOption = None,
    ca: CaOption = None,
    fingerprint: FingerprintOption = None,
    keepalive: KeepaliveOption = None,
    model: ModelOption = None,
    push: PushOption = None,
    certificate: CertificateOption = None,
    key: KeyOption = None,
    foreground: ForegroundOption = False,
    identity: IdentityOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Start the agent if needed, log in and register; prints the name and the addresses.

    Another USER@DOMAIN is a further identity of the same agent; `ntm up` alone brings up all.
    """
    _check_proofs(password_stdin, auth_key, certificate)
    wanted = _model(model)
    choice = chosen_keepalive(keepalive, push)
    directory = directory_of(state)
    report = _reporter(json=json)
    client = Client(directory)
    plain = (who, name, keepalive, push, model, certificate) == (None,) * 6
    if plain and _is_anothers(directory):
        note("the agent is already running")
        report(client.ask(Up(identity=identity), StatusView, said=note))
        return
    accounts = tuple(saved_accounts(directory).values()) if directory.exists() else ()
    proven = (auth_key, server, ca, fingerprint) != (None,) * 4 or password_stdin
    if plain and identity is None and len(accounts) > 1 and not proven:
        _begin(client, directory, Up(), accounts[0].model, report, foreground=foreground)
        return
    saved = _meant(accounts, who, identity)
    _check_server(server)
    account = _account(who, name, server, _trust(ca, fingerprint), saved)
    account = reached(account, choice, push)
    if wanted is not None:
        account = msgspec.structs.replace(account, model=wanted)
    account = _beside(accounts, account, wanted)
    proof = _credential(certificate, key, account)
    if client.is_running() and saved is not None:
        if proof is not None:
            raise Remedy(
                "the agent runs, and a certificate brings another device key",
                remedy="ntm down, then the same command again",
            )
        secret = _password(account, from_stdin=True) if password_stdin else None
        request = Up(_running(account, saved), secret, auth_key, identity=account.who)
        note("the agent is already running")
        report(client.ask(request, StatusView, said=note))
        return
    by_password = auth_key is None and proof is None
    secret = _password(account, password_stdin) if by_password else None
    request = Up(account, secret, auth_key, *(proof or ()))
    _begin(client, directory, request, account.model, report, foreground=foreground)


def _begin(
    client: Client,
    directory: Path,
    request: Up,
    model: Model,
    report: Callable[[StatusView], None],
    *,
    foreground: bool,
) -> None:
    """Ask the agent, starting it where it does not run."""
    if client.is_running():
        note("the agent is already running")
        report(client.ask(request, StatusView, said=note))
    elif foreground:
        _run_here(directory, request, report, model)
    else:
        report(_run_apart(client, directory, request, model))


def _meant(
    accounts: Sequence[SavedAccount], who: str | None, identity: str | None
) -> SavedAccount | None:
    """Return the saved account that the command is about; None for a new one."""
    if who is not None:
        named_too = None if identity is None else named(identity, accounts).who
        if named_too not in (None, who.lower().rstrip(".")):
            raise typer.BadParameter(f"{who} is not {identity}", param_hint="--identity")
        return next((each for each in accounts if each.who == who.lower().rstrip(".")), None)
    if identity is not None:
        return named(identity, accounts)
    if len(accounts) > 1:
        raise ambiguous(accounts)
    return accounts[0] if accounts else None


def _beside(
    accounts: Sequence[SavedAccount], account: SavedAccount, wanted: Model | None
) -> SavedAccount:
    """Return the account as it can be beside the others of the same agent; raises Remedy."""
    others = [each for each in accounts if each.who != account.who]
    if not others:
        return account
    model = wanted or others[0].model
    if Model.PROXY in (model, others[0].model):
        raise Remedy(
            f"this agent is {others[0].who}'s, and several identities in one agent are for the "
            "system type: two proxies would need two ports",
            remedy=f"another state and other ports for {account.who}: ntm --state DIR ...",
        )
    return msgspec.structs.replace(account, model=model)


def _is_anothers(directory: Path) -> bool:
    """Whether an agent runs there whose files only another user may read: its operator's."""
    readable = os.access(directory, os.R_OK)
    return directory.exists() and not readable and Client(directory).is_running()


def _run_here(
    directory: Path, request: Up, report: Callable[[StatusView], None], model: Model
) -> None:
    # Imported late: no other command needs the agent's half of the program.
    from ntmobile.agent.process import run_in_foreground

    if model is Model.SYSTEM:
        run_in_foreground(directory, request, said=note, up=report)
    else:
        from ntmobile.sockets.proxy.model import ProxyModel

        run_in_foreground(directory, request, said=note, up=report, make_model=ProxyModel)


def _run_apart(client: Client, directory: Path, request: Up, model: Model) -> StatusView:
    note("starting the agent")
    start_agent(directory, model)
    try:
        return client.ask(request, StatusView, said=note)
    except KeyboardInterrupt:
        note("ntm: the agent goes on in the background; end it with: ntm down")
        raise


def _credential(
    certificate: Path | None, key: Path | None, account: SavedAccount
) -> tuple[str, str] | None:
    """Read a certificate and its key, and see that they fit before anything is changed."""
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise typer.BadParameter("--certificate and --key go together")
    texts = tuple(
        read_text(option, file) for option, file in (("certificate", certificate), ("key", key))
    )
    der, secret = read_device_credential(texts[0].encode(), texts[1].encode())
    folded(der, account.fqdn, public_of(secret))
    return texts[0], texts[1]


def read_text(option: str, file: Path) -> str:
    """Read a file that a person named; wrong usage when it cannot be."""
    try:
        return file.read_text(encoding="ascii")
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"--{option} {file}: {error}") from None


def _model(given: str | None) -> Model | None:
    if given is not None and given not in set(Model):
        raise typer.BadParameter(f"--model is system or proxy, not {given!r}")
    return None if given is None else Model(given)


def _account(
    who: str | None, name: str | None, server: str | None, trust: Trust, saved: SavedAccount | None
) -> SavedAccount:
    """What the person asked for, on top of what is saved."""
    if who is None and saved is None:
        raise Remedy("this node has no account yet", remedy="ntm up USER@DOMAIN --name NAME")
    if saved is not None:
        return SavedAccount(
            user=saved.user,
            name=(name or saved.name).lower(),
            domain=saved.domain,
            server=server or saved.server,
            trust=trust if trust != Trust() else saved.trust,
            model=saved.model,
            enrolled=saved.enrolled and name in (None, saved.name),
            keepalive=saved.keepalive,
            device_token=saved.device_token,
        )
    assert who is not None
    user, _, domain = who.lower().rpartition("@")
    domain = domain.rstrip(".")
    own = (name or socket.gethostname().partition(".")[0]).lower()
    _check_labels(who, own, (user, *domain.split(".")))
    return SavedAccount(user=user, name=own, domain=domain, server=server, trust=trust)


def _check_labels(who: str, name: str, labels: tuple[str, ...]) -> None:
    if not all(map(_LABEL.fullmatch, labels)):
        raise typer.BadParameter(f"{who!r} is not USER@DOMAIN", param_hint="USER@DOMAIN")
    if not _LABEL.fullmatch(name):
        raise typer.BadParameter(
            f"{name!r} is not letters, digits and hyphens", param_hint="--name"
        )


def _running(account: SavedAccount, saved: SavedAccount | None) -> SavedAccount | None:
    """What to tell an agent that runs already: nothing, unless it is to be another node.

    A phone's app gets a new device token now and then: that changes while it runs.
    """
    if saved is None or account == saved:
        return None if saved else account
    if account == reached_as(saved, account):
        return account
    raise Remedy(
        f"the agent runs as {saved.fqdn} and keeps its account while it does",
        remedy="ntm down, then the same command again",
    )


def _check_proofs(password_stdin: bool, auth_key: str | None, certificate: Path | None) -> None:
    given = {
        "--password-stdin": password_stdin,
        "--auth-key": auth_key is not None,
        "--certificate": certificate is not None,
    }
    proofs = [option for option, is_given in given.items() if is_given]
    if len(proofs) > 1:
        raise typer.BadParameter(f"{' and '.join(proofs)} exclude each other: one of them logs in")


def _check_server(url: str | None) -> None:
    try:
        if url is not None:
            parse_url(url)
    except ValueError as error:
        raise typer.BadParameter(f"--as: {error}") from None


def _trust(ca: Path | None, fingerprint: str | None) -> Trust:
    if ca is not None and fingerprint is not None:
        raise typer.BadParameter("--ca and --fingerprint exclude each other")
    if ca is not None:
        try:
            return Trust(ca=ca.read_text(encoding="ascii"))
        except (OSError, ValueError) as error:
            raise typer.BadParameter(f"--ca {ca}: {error}") from None
    if fingerprint is not None:
        digits = fingerprint.removeprefix("SHA256:").replace(":", "").lower()
        if len(digits) != 64 or not all(digit in "0123456789abcdef" for digit in digits):
            raise typer.BadParameter("--fingerprint is SHA256: and 64 hexadecimal digits")
        return Trust(fingerprint=f"SHA256:{digits}")
    return Trust()


def _password(account: SavedAccount, from_stdin: bool) -> str | None:
    if from_stdin:
        password = sys.stdin.readline(MAX_PASSWORD + 2).rstrip("\r\n")
    elif account.enrolled:
        return None
    elif sys.stdin.isatty():
        password = getpass.getpass(f"Password of {account.user}@{account.domain}: ")
    else:
        raise Remedy(
            "a first login needs a password, and there is no terminal to ask for it",
            remedy="ntm up USER@DOMAIN --password-stdin < FILE, or --auth-key KEY, "
            "or --certificate FILE --key FILE",
        )
    if not password or len(password) > MAX_PASSWORD:
        raise Remedy(
            "the password is empty or too long", remedy="the same command with the password"
        )
    return password


def _reporter(*, json: bool) -> Callable[[StatusView], None]:
    def report(view: StatusView) -> None:
        if json:
            show_json(view)
        elif view.identities:
            for each in view.identities:
                report(each)
        elif view.peers:
            show_status(view)
        else:
            show(f"{view.fqdn} is {view.state}")
            for line in (view.virtual_ipv4, view.virtual_ipv6):
                if line:
                    show(f"  {line}")
            for reason in view.reasons:
                show(f"  ! {reason}")
            for notice in view.notices:
                show(f"  {notice}")

    return report


@command
def down(identity: IdentityOption = None, state: StateOption = None) -> None:
    """Close the tunnels and give the machine its network back; of several identities all of them,
    and the agent ends with the last.
    """
    _end(state, identity, forget=False)


@command
def logout(identity: IdentityOption = None, state: StateOption = None) -> None:
    """Like down; the account is forgotten too (keys and pins stay for a later login)."""
    _end(state, identity, forget=True)


def _end(state: Path | None, identity: str | None, *, forget: bool) -> None:
    directory = directory_of(state)
    try:
        view = Client(directory).ask(AskStatus(identity=identity), StatusView)
        Client(directory).ask(Down(forget, identity=identity), type(None), said=note)
        for each in view.identities or (view,):
            show(f"{each.fqdn or 'the node'} is down" + (" and logged out" if forget else ""))
    except AgentNotRunning as error:
        if not forget:
            error.remedy = ""
            error.problem += ": the node is down already"
            raise
        _forget(directory, identity)


def _forget(directory: Path, identity: str | None) -> None:
    from ntmobile.agent.process import forget_account

    if not directory.exists():
        show(f"nobody is logged in: there is no state in {directory}")
        return
    saved = saved_accounts(directory)
    meant = _meant(tuple(saved.values()), None, identity)
    forget_account(
        directory, next((place for place, each in saved.items() if each is meant), directory)
    )
    whose = f"{meant.who} is " if len(saved) > 1 and meant is not None else ""
    show(f"{whose}logged out (the agent on {directory} was not running)")
