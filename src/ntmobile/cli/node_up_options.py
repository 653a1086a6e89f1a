"""What `ntm up` takes: who this node is, how it proves that, and how it is to run."""

from pathlib import Path
from typing import Annotated

import typer

WhoArgument = Annotated[
    str | None,
    typer.Argument(metavar="[USER@DOMAIN]", help="At the first time; later just `ntm up`."),
]
NameOption = Annotated[
    str | None, typer.Option("--name", help="Of this machine; the host's name by default.")
]
PasswordOption = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input.")
]
AuthKeyOption = Annotated[
    str | None, typer.Option("--auth-key", help="A key of `ntm admin key create`.")
]
ServerOption = Annotated[
    str | None,
    typer.Option("--as", metavar="URL", help="The account server; found by DNS without it."),
]
CaOption = Annotated[
    Path | None, typer.Option("--ca", help="Trust the account server by this CA (PEM).")
]
FingerprintOption = Annotated[
    str | None,
    typer.Option("--fingerprint", metavar="SHA256:HEX", help="Trust just this certificate."),
]
KeepaliveOption = Annotated[
    str | None,
    typer.Option(
        "--keepalive", metavar="udp|tcp|push|auto", help="How the DC reaches this node: udp."
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model", metavar="system|proxy", help="system, as root, or proxy, without root."
    ),
]
PushOption = Annotated[
    str | None,
    typer.Option(
        "--push",
        metavar="fcm:TOKEN|apns:TOKEN|web:FILE",
        help="The device token that wakes this node; web: a file with the subscription.",
    ),
]
CertificateOption = Annotated[
    Path | None,
    typer.Option(
        "--certificate", help="Log in by this certificate (PEM), not by password; with --key."
    ),
]
KeyOption = Annotated[
    Path | None,
    typer.Option("--key", help="Its Ed25519 key (PEM); it becomes this machine's device key."),
]
ForegroundOption = Annotated[
    bool, typer.Option("--foreground", help="Stay, and run the agent in this process.")
]
