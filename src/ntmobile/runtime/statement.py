"""What a domain says of itself at /.well-known/ntm: made, parsed, checked.

Ours: docs/protocol.md section 1.
"""

import msgspec

from ntmobile.errors import DecodeError, NTMobileError
from ntmobile.keys.identity import fingerprint, sign, succeed, verify
from ntmobile.keys.identity import is_successor as is_signed_by
from ntmobile.wire.federation import DomainStatement, statement_bytes
from ntmobile.wire.message import decode, decoder

STATEMENT_PATH = "/.well-known/ntm"
_STATEMENT = decoder(DomainStatement)


class StatementWrong(NTMobileError):
    """A domain's statement does not prove what it should."""


def make_statement(
    domain: str,
    private: bytes,
    public: bytes,
    certificates: tuple[bytes, ...],
    issued: int,
    authorities: tuple[bytes, ...] = (),
) -> DomainStatement:
    """Sign a statement; certificates are SHA-256 of DER, issued is in seconds since 1970.

    authorities are the CAs of the domain's nodes, in DER.
    """
    plain = DomainStatement(domain, public, certificates, issued, authorities=authorities)
    return msgspec.structs.replace(plain, signature=sign(private, statement_bytes(plain)))


def with_previous(
    statement: DomainStatement, previous_private: bytes, previous: bytes
) -> DomainStatement:
    """Add the proof that the holder of the previous key handed over to this one."""
    return msgspec.structs.replace(
        statement,
        previous=previous,
        previous_signature=succeed(previous_private, statement.key),
    )


def parse_statement(data: bytes, domain: str, certificate: bytes) -> DomainStatement:
    """Parse a statement made by whoever holds its key, for this domain and certificate.

    Whether that key is the domain's is the caller's to judge. Raises StatementWrong.
    """
    try:
        statement = decode(_STATEMENT, data)
    except DecodeError as error:
        raise StatementWrong(f"the statement of {domain} is malformed: {error}") from None
    if statement.domain != domain:
        raise StatementWrong(f"the statement is of {statement.domain}, not of {domain}")
    if not verify(statement.key, statement.signature, statement_bytes(statement)):
        raise StatementWrong(f"the statement of {domain} has a wrong signature")
    if certificate not in statement.certificates:
        raise StatementWrong(f"the statement of {domain} does not list this certificate")
    return statement


def is_successor(statement: DomainStatement, known: bytes) -> bool:
    """Whether the statement proves that its key was handed over by the holder of `known`."""
    signature = statement.previous_signature
    if statement.previous != known or signature is None:
        return False
    return is_signed_by(known, statement.key, signature)


def check_statement(data: bytes, domain: str, known: bytes, certificate: bytes) -> DomainStatement:
    """As parse_statement, and by the known key or by one that it signed."""
    statement = parse_statement(data, domain, certificate)
    if statement.key != known and not is_successor(statement, known):
        raise StatementWrong(
            f"the key of {domain} is {fingerprint(statement.key)}, known is {fingerprint(known)}, "
            "and the known one did not sign the new one"
        )
    return statement
