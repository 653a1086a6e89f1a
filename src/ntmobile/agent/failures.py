"""What went wrong, for a person: the problem, what was kept, and the command to run next.

Every reason of a refusal or failure has exactly one text here.
"""

from ntmobile.agent.records import SavedAccount
from ntmobile.errors import Remedy
from ntmobile.proto.node.events import LoginFailed
from ntmobile.proto.node.trust import domain_of
from ntmobile.runtime.https import BY_THE_CLOCK
from ntmobile.wire.login import LoginRefused
from ntmobile.wire.registration import Reason

_AGAIN = "the same command again"
_REFUSALS: dict[str, tuple[str, str]] = {
    LoginRefused.CREDENTIALS: (
        "the account server refused the user, the password or the key; nothing was changed here",
        "ntm up {who} --name {name}, with the right password",
    ),
    LoginRefused.REVOKED: (
        "{fqdn} was revoked by the operator of {domain}; its keys and peers are kept",
        "ask the operator, then: ntm up {who} --name {name}",
    ),
    LoginRefused.BUSY: ("the account server of {domain} is overloaded", _AGAIN),
    LoginRefused.SLOW_DOWN: (
        "too many failed logins from here; the account server of {domain} asks to wait",
        "in a minute, {again}",
    ),
    LoginRefused.STORE: (
        "the account server of {domain} cannot write (disk full or database gone)",
        "tell the operator, then {again}",
    ),
    LoginRefused.COORDINATOR: (
        "the coordinator of {domain} did not take this node",
        "tell the operator, then {again}",
    ),
    LoginRefused.NONCE: ("the login took too long", _AGAIN),
    LoginRefused.IDENTITY: (
        "the account server knows {fqdn} by another device key; this node's key was kept",
        "ask the operator for: ntm admin --server DIR node revoke {fqdn}; then {again}",
    ),
    LoginRefused.NAME_TAKEN: (
        "another machine already is {fqdn}",
        "ntm up {who} --name ANOTHER",
    ),
    LoginRefused.CERTIFICATE_MALFORMED: (
        "the certificate cannot be read",
        "give a certificate in PEM, as ntm admin certificate issue writes it",
    ),
    LoginRefused.CERTIFICATE_SELF_SIGNED: (
        "the certificate is signed by itself, not by a CA",
        "ask the operator of {domain} for one: ntm admin certificate issue {user} --name {name}",
    ),
    LoginRefused.CERTIFICATE_AUTHORITY: (
        "the certificate is of a CA that {domain} does not trust",
        "ask its operator for one of the domain's CA, or to add yours to [nodes] trusted_cas",
    ),
    LoginRefused.CERTIFICATE_FORGED: (
        "the certificate bears the name of a CA that {domain} trusts, which did not sign it",
        "ask its operator for a new one: ntm admin certificate issue {user} --name {name}",
    ),
    LoginRefused.CERTIFICATE_CONSTRAINT: (
        "the certificate is of a CA that may not speak for {fqdn}",
        "ask the operator of {domain} for one of the domain's own CA",
    ),
    LoginRefused.CERTIFICATE_USAGE: (
        "the certificate is for another use than signing as a client",
        "ask for one for client authentication",
    ),
    LoginRefused.CERTIFICATE_NAME: (
        "the certificate is for another name than {fqdn}",
        "log in under the name that it has: openssl x509 -in FILE -noout -ext subjectAltName",
    ),
    LoginRefused.CERTIFICATE_KEY: (
        "the certificate is for another key than the one given",
        "give the key that belongs to it, made by: openssl genpkey -algorithm ed25519",
    ),
    LoginRefused.CERTIFICATE_EXPIRED: (
        "the certificate has expired, by the clock of the account server",
        "ask the operator of {domain} for a new one; a node that was enrolled needs none: ntm up",
    ),
    LoginRefused.CERTIFICATE_EARLY: (
        "the certificate is not valid yet, by the clock of the account server",
        "wait, or tell the operator of {domain} that a clock is wrong",
    ),
    Reason.DOMAIN_UNREACHABLE: (
        "the account server of {domain} was not found",
        "check the domain's name, or give the server: ntm up {who} --as https://HOST",
    ),
    Reason.DOMAIN_KEY: (
        "the account server of {domain} could not prove who it is; no password was sent",
        "give the operator's CA (--ca FILE) or certificate (--fingerprint SHA256:...)",
    ),
    Reason.TIMED_OUT: (
        "the account server of {domain} does not answer",
        "check the network and the server, then {again}; "
        "where an HTTP proxy leads out: HTTPS_PROXY=http://HOST:PORT ntm up ...",
    ),
    Reason.SUPERSEDED: (
        "a newer copy of this node's state runs elsewhere; this one gave way",
        "end the other one, then here: ntm down, ntm up; "
        "or log in under another name: ntm logout, ntm up {who} --name ANOTHER",
    ),
}

FOR_GOOD = (Reason.SUPERSEDED, Reason.REVOKED)
"""Why a node stops, and only a person makes it go on."""

_NAMES: dict[Reason, tuple[str, str]] = {
    Reason.UNKNOWN_NAME: ("there is no such node, or you may not know of it", "check the name"),
    Reason.NOT_REGISTERED: ("the node is not up now", "start it there: ntm up"),
    Reason.NOT_ALLOWED: ("a policy forbids this tunnel", "ask the operators of both domains"),
    Reason.FOREIGN_DOMAIN: (
        "one of the two domains does not list the other, or there is no such domain",
        "check the name; the operators run: ntm admin --server DIR federation add DOMAIN",
    ),
    Reason.DOMAIN_UNREACHABLE: ("the peer's domain cannot be reached", "ntm status; try again"),
    Reason.DOMAIN_KEY: (
        "the peer's domain could not prove its key",
        "the operators run: ntm admin --server DIR federation add DOMAIN --key SHA256:...",
    ),
    Reason.CLOCK: (
        "the servers of the two domains do not agree on the time",
        "tell both operators: the logs of ntm serve say whose clock is off, and by how much",
    ),
    Reason.NO_RELAY: ("a relay is needed and none is up", "tell the operator of your domain"),
    Reason.NO_COMMON_PATH: ("no network joins the two nodes, not even by relay", "ntm status"),
    Reason.KEY_EXPIRED: ("this node's key has expired", "ntm up"),
    Reason.REVOKED: ("the node was revoked", "ask its operator"),
    Reason.BUSY: ("a server is overloaded", "try again"),
    Reason.SUPERSEDED: ("a newer copy of this node runs elsewhere", "ntm status"),
    Reason.IDENTITY_CHANGED: (
        "the peer's key is not the one seen before; the tunnel was refused",
        "ask its owner whether the machine is new (ntm peers shows the key that is pinned), "
        "and only then: ntm set forget={fqdn}",
    ),
    Reason.TIMED_OUT: ("a server or the peer did not answer in time", "ntm status; try again"),
    Reason.PUSH_DOWN: (
        "the node sleeps, and its push service takes no wake-up now",
        "try again; if it stays so, tell the operator of the node's domain: the log of ntm serve "
        "says what the push service answered",
    ),
    Reason.PUSH_REFUSED: (
        "the node sleeps, and its domain may not wake it: the push service refuses its "
        "credentials, or could not prove to be that service",
        "tell the operator of the node's domain: the log of ntm serve says what to mend in [push]",
    ),
    Reason.TOKEN_GONE: (
        "the node sleeps and cannot be woken: its push service does not know it any more",
        "on that node: ntm up --keepalive push --push with a new device token, or --keepalive tcp",
    ),
    Reason.NO_NOTIFICATION: (
        "no notification server of the domain answers; the node keeps alive by UDP meanwhile",
        "ntm status; if it stays so, tell the operator",
    ),
    Reason.NOTIFICATION_SILENT: (
        "the notification server that holds the node's connection does not answer",
        "try again: the node notices by itself, within two minutes at first and later within half "
        "an hour; its operator starts that server again, or adds one ([[notifier]])",
    ),
    Reason.NOT_WOKEN: (
        "the node was sent a wake-up and did not answer it in time",
        "try again; it may be off, or without a network",
    ),
    Reason.INDEX_IN_USE: ("the relay had no room for the tunnel", "try again"),
    Reason.TOLD_DIFFERENTLY: (
        "the two nodes were told different keys or certificates of each other: "
        "a server between them lies, or one of them was set up anew in this very moment",
        "try again; if it stays so, tell the operators of both domains",
    ),
    Reason.CERTIFICATE_MISSING: (
        "the node shows no certificate, and its domain has a CA or this node asks for one",
        "there: ntm down, ntm up; its operator lets the AS issue them (ca.key beside server.toml)",
    ),
    Reason.CERTIFICATE_WITHHELD: (
        "the node had a certificate before and shows none now",
        "ask its owner; if it has none any more: ntm set forget={fqdn}",
    ),
    Reason.CERTIFICATE_STRIPPED: (
        "the DC told one of the two nodes another certificate than the other has",
        "try again; if it stays so, tell the operators of both domains",
    ),
    Reason.CERTIFICATE_MALFORMED: (
        "the node's certificate cannot be read",
        "there: ntm down, ntm up, for a new one",
    ),
    Reason.CERTIFICATE_SELF_SIGNED: (
        "the node's certificate is signed by itself, not by a CA",
        "there: log in with one of the domain's CA; or trust it here: ntm set trusted-ca=FILE",
    ),
    Reason.CERTIFICATE_AUTHORITY: (
        "the node's certificate is of a CA that this node does not know",
        "ntm set trusted-ca=FILE, with a CA file you have from its operator",
    ),
    Reason.CERTIFICATE_FORGED: (
        "the node's certificate bears the name of its domain's CA, which did not sign it",
        "ask its operator whether the CA is new (ntm keys shows the pinned one), "
        "and only then: ntm set forget={domain}",
    ),
    Reason.CERTIFICATE_CONSTRAINT: (
        "the node's certificate is of a CA that may not speak for that name",
        "its operator issues one by the CA of its own domain",
    ),
    Reason.CERTIFICATE_USAGE: (
        "the node's certificate is for another use than signing as a client",
        "its operator issues one for client authentication",
    ),
    Reason.CERTIFICATE_NAME: (
        "the node's certificate is for another name",
        "there: log in under the name of the certificate",
    ),
    Reason.CERTIFICATE_KEY: (
        "the node's certificate is for another key than its own",
        "there: ntm down, ntm up, for a new one",
    ),
    Reason.CERTIFICATE_EXPIRED: (
        "the node's certificate has expired, by this machine's clock",
        "check the clock here (date); there: ntm status says why it was not renewed",
    ),
    Reason.CERTIFICATE_EARLY: (
        "the node's certificate is not valid yet, by this machine's clock",
        "set the clock here (date), or that of its account server",
    ),
}


_REACH: dict[Reason, str] = {
    Reason.TOKEN_GONE: (
        "the push service does not know this node's device token any more, so it keeps alive by "
        "UDP; next: ntm up --push with a new device token"
    ),
    Reason.PUSH_REFUSED: (
        "the domain does not use the push service of this node's device token, so it keeps alive "
        "by UDP; next: tell the operator, or ntm up --keepalive udp"
    ),
}


def reach_troubles(reason: Reason | None) -> tuple[str, ...]:
    """Explain why a node is not reached as its user chose; nothing where it is."""
    return (_REACH[reason],) if reason in _REACH else ()


def login_failure(account: SavedAccount, event: LoginFailed) -> Remedy:
    """Explain a failed login."""
    problem, remedy = _REFUSALS.get(
        event.code, (f"the login failed ({event.code})", "ntm bugreport; {again}")
    )
    if event.detail:
        problem += f": {event.detail}"
    if BY_THE_CLOCK in event.detail:
        remedy = "check the clock (date, or timedatectl set-ntp true), then {again}"
    words = {
        "user": account.user,
        "who": f"{account.user}@{account.domain}",
        "name": account.name,
        "domain": account.domain,
        "fqdn": account.fqdn,
        "again": _AGAIN,
    }
    if event.retry_at is not None:
        problem += "\n     the agent goes on trying in the background"
        remedy = f"ntm wait; or: {remedy}"
    return Remedy(_fill(problem, words), remedy=_fill(remedy, words))


def standstill(account: SavedAccount, reason: str, failure: LoginFailed | None) -> Remedy | None:
    """Explain why a node stands still until a person does something; None: it goes on by itself.

    The reason is the machine's, the failure that of its newest login.
    """
    if failure is not None and failure.code == LoginRefused.REVOKED:
        return login_failure(account, failure)
    return registration_failure(account, reason) if reason in FOR_GOOD else None


def registration_failure(account: SavedAccount, reason: str) -> Remedy:
    """Explain why a node that logged in is not registered; reason is the machine's."""
    known = Reason(reason) if reason in set(Reason) else None
    if known in FOR_GOOD:
        return login_failure(account, LoginFailed(reason, "", None))
    said = reason_text(known) if known else reason
    return Remedy(
        f"{account.fqdn} is logged in and not registered: {said}\n"
        "     the agent goes on trying in the background",
        remedy="ntm wait; ntm status",
    )


def name_failure(fqdn: str, reason: Reason) -> Remedy:
    """Explain why there is no tunnel to a name."""
    problem, remedy = _NAMES[reason]
    words = {"fqdn": fqdn, "domain": domain_of(fqdn)}
    return Remedy(f"{fqdn}: {problem}", remedy=_fill(remedy, words))


def reason_text(reason: Reason) -> str:
    """Explain in one phrase."""
    return _NAMES[reason][0]


def _fill(text: str, words: dict[str, str]) -> str:
    # Not str.format: a server's own words may hold braces.
    for name, value in words.items():
        text = text.replace("{" + name + "}", value)
    return text
