"""`ntm server relay`, `ntm server notifier`: the directory of an RS or NS on a machine of its own.

RS is never told what the tunnels carry, NS not what it brings, and their machines are nobody's
treasure: each gets a certificate of its own and the domain's word for it, but neither the domain's
private key nor the CA's, and no database. Who breaks into one can relay badly, or bring nothing,
and nothing else.
Ours: docs/protocol.md sections 4 and 10.
"""

from dataclasses import replace
from pathlib import Path

from ntmobile.config import render
from ntmobile.errors import Remedy
from ntmobile.keys.certificates import der_digest, make_server, names_of, read_certificate
from ntmobile.keys.identity import public_of
from ntmobile.proto.io import Entropy
from ntmobile.runtime.statement import make_statement
from ntmobile.servers.config import FURTHER, Role, ServerConfig, Site, StoreSettings
from ntmobile.servers.files import MAKE_ANEW, ServerDirectory, write
from ntmobile.servers.home import example
from ntmobile.servers.init import refuse_used, serial, staged, unwritable
from ntmobile.servers.push_settings import PushSettings
from ntmobile.wire.message import encode

HEADER = """# Settings of an {role} of {domain}, made by {command}.

"""


def make_lone_directory(
    main: ServerDirectory, role: Role, label: str, directory: Path, *, entropy: Entropy, now_s: int
) -> Site:
    """Make the directory of the RS or NS of that label from the domain's; raises Remedy.

    All of it or nothing, as with init.
    """
    settings = main.config()
    site = _site(settings, role, label)
    refuse_used(directory)
    try:
        with staged(directory) as stage:
            _fill(ServerDirectory(stage), main, settings, site, serial(entropy), now_s)
    except OSError as error:
        raise unwritable(directory, error) from None
    return site


def site_of(directory: ServerDirectory, settings: ServerConfig) -> Site:
    """Return which server a directory of one alone is of: its certificate says it; raises Remedy.

    The domain's settings name it still, for they were made together.
    """
    certificate = read_certificate(directory.tls_certificate(settings))
    label = names_of(certificate)[0].partition(".")[0]
    for site in settings.sites:
        if site.label == label and site.role in FURTHER:
            return site
    raise Remedy(
        f"{directory.settings_file} does not name {label}, whose certificate is here",
        remedy=MAKE_ANEW,
    )


def command_of(role: Role) -> str:
    """Return what makes such a directory."""
    return f"ntm server {FURTHER[role]}"


def _site(settings: ServerConfig, role: Role, label: str) -> Site:
    for site in settings.all_of(role):
        if site.label == label:
            return site
    labels = ", ".join(site.label for site in settings.all_of(role)) or "it has none"
    raise Remedy(
        f"{label} is no {role.name} of {settings.domain} ({labels})",
        remedy=f"add it to server.toml first: {example(role, label)}",
    )


def _fill(
    directory: ServerDirectory,
    main: ServerDirectory,
    settings: ServerConfig,
    site: Site,
    number: int,
    now_s: int,
) -> None:
    private, ca = main.domain_key(), main.ca()
    names = (settings.host_of(site),)
    made = make_server(ca, names, site.addresses, serial=number, now_s=now_s)
    digests = (der_digest(made.certificate),)
    public = public_of(private)
    statement = make_statement(settings.domain, private, public, digests, now_s)
    directory.write_tls(made, ca)
    directory.write_domain_public(public, encode(statement))
    write(directory.ca_file, ca.certificate)
    header = HEADER.format(
        role=site.role.name, domain=settings.domain, command=command_of(site.role)
    )
    write(directory.settings_file, (header + render(_public(settings))).encode())


def _public(settings: ServerConfig) -> ServerConfig:
    """Without what is only for AS and DC, the database's password above all."""
    server = replace(settings.server, certificate="", key="", whole_zone=False, trust_anchor="")
    return replace(settings, server=server, store=StoreSettings(), push=PushSettings())
