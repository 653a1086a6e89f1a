"""The state directory: what a node keeps between runs.

    identity.json   private device and tunnel key (0600)
    account.json    user, name, domain, how the account server is trusted
    servers.json    where the servers were last reached
    addresses.json  the virtual addresses
    peers.json      pinned keys and aliases
    certificates.json  this node's certificates, and the pinned CAs of domains
    choices.json    what `ntm set` changed
    handovers.json  the newest handovers (agent/handovers.py)
    started         a number that grows with every start
    agent.lock agent.log control.sock

Ours: docs/protocol.md sections 2, 4 and 5.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import msgspec

from ntmobile.agent import records
from ntmobile.agent.files import (
    private_directory,
    read_if_there,
    remove,
    unusable,
    write_atomically,
)
from ntmobile.agent.places import IDENTITIES
from ntmobile.agent.records import (
    Choices,
    LastGood,
    SavedAccount,
    SavedCertificates,
    SavedIdentity,
    SavedPeer,
    VirtualAddresses,
)
from ntmobile.errors import Remedy
from ntmobile.keys.identity import Identity, public_of, succeed
from ntmobile.keys.node_certificates import read_device_credential
from ntmobile.proto.io import Entropy, random_bytes
from ntmobile.proto.node.credentials import folded

R = TypeVar("R")
_SECRET_SIZE = 32
_IDENTITY = "identity.json"
_ACCOUNT = "account.json"
_SERVERS = "servers.json"
_ADDRESSES = "addresses.json"
_PEERS = "peers.json"
_CERTIFICATES = "certificates.json"
_CHOICES = "choices.json"
_STARTED = "started"


class State:
    """One node's state; memory is the truth, the disk follows.

    A disk that refuses a write never stops the node: the content stays in memory, `trouble` says
    what is wrong, and `flush` tries again. Only the private keys must be on disk before use.
    """

    def __init__(self, directory: Path, entropy: Entropy) -> None:
        """Reads what is there, makes what is not; raises Remedy when a file is damaged."""
        self.directory = directory
        self._unsaved: dict[str, bytes | None] = {}
        self.trouble: str | None = None
        """Why the newest content is not on disk; None when it is."""
        self.identity = self._read_identity(entropy)
        self.account = self._read(_ACCOUNT, SavedAccount)
        self.servers = self._read(_SERVERS, LastGood) or LastGood()
        self.addresses = self._read(_ADDRESSES, VirtualAddresses)
        self.choices = self._read(_CHOICES, Choices) or Choices()
        self.certificates = self._read(_CERTIFICATES, SavedCertificates) or SavedCertificates()
        self._peers: dict[str, SavedPeer] = dict(self._read(_PEERS, dict[str, SavedPeer]) or {})

    @property
    def peers(self) -> Mapping[str, SavedPeer]:
        """By FQDN."""
        return MappingProxyType(self._peers)

    def next_start(self, now_s: int) -> int:
        """Return a number greater than at every start before; now_s is the wall clock.

        The clock keeps it growing where a full disk kept the last one from being written.
        """
        kept = read_if_there(self.directory / _STARTED) or b"0"
        started = max(int(kept) + 1 if kept.strip().isdigit() else 0, now_s)
        self._keep(_STARTED, b"%d\n" % started)
        return started

    def keep_account(self, account: SavedAccount) -> None:
        """Replaces the account."""
        self.account = account
        self._keep(_ACCOUNT, records.encode(account))

    def keep_servers(self, servers: LastGood) -> None:
        """Replaces the last good server addresses; writes only what changed."""
        if servers != self.servers:
            self.servers = servers
            self._keep(_SERVERS, records.encode(servers))

    def keep_addresses(self, addresses: VirtualAddresses) -> None:
        """Replaces the virtual addresses; writes only what changed."""
        if addresses != self.addresses:
            self.addresses = addresses
            self._keep(_ADDRESSES, records.encode(addresses))

    def keep_choices(self, choices: Choices) -> None:
        """Replaces what `ntm set` changes."""
        self.choices = choices
        self._keep(_CHOICES, records.encode(choices))

    def keep_peer(self, fqdn: str, peer: SavedPeer) -> None:
        """Pins a peer, or replaces its pin."""
        self._peers[fqdn] = peer
        self._keep(_PEERS, records.encode(self._peers))

    def keep_issued(self, der: bytes) -> None:
        """Replaces this node's certificate by the one of its newest login."""
        self._keep_certificates(msgspec.structs.replace(self.certificates, issued=der))

    def keep_authorities(self, domain: str, authorities: tuple[bytes, ...]) -> None:
        """Pins the CAs of a domain."""
        known = {**self.certificates.authorities, domain: authorities}
        self._keep_certificates(msgspec.structs.replace(self.certificates, authorities=known))

    def use_credential(self, der: bytes, device: bytes) -> None:
        """Take a certificate, and its key as this node's device key; raises Remedy.

        A key that was enrolled before signs the new one, so that peers know the node again.
        """
        before = self.identity
        if device != before.device:
            public = public_of(device)
            enrolled = self.account is not None and self.account.enrolled
            saved = SavedIdentity(
                device,
                before.tunnel,
                before.public.device if enrolled else None,
                succeed(before.device, public) if enrolled else None,
            )
            self._write_identity(saved)
            self.identity = _identity_of(saved)
        self._keep_certificates(msgspec.structs.replace(self.certificates, issued=b"", given=der))

    def forget(self, name: str) -> bool:
        """Drops the pin of a peer, or those of a domain's CAs; whether there was one."""
        authorities = dict(self.certificates.authorities)
        known = name in self._peers or name in authorities
        if self._peers.pop(name, None) is not None:
            self._keep(_PEERS, records.encode(self._peers))
        if authorities.pop(name, None) is not None:
            kept = msgspec.structs.replace(self.certificates, authorities=authorities)
            self._keep_certificates(kept)
        return known

    def forget_account(self) -> None:
        """Drops account, servers and addresses; keys and pins stay, for a later login."""
        kept = msgspec.structs.replace(self.certificates, issued=b"", given=b"")
        self._keep_certificates(kept)
        self.account = None
        self.servers = LastGood()
        self.addresses = None
        for name in (_ACCOUNT, _SERVERS, _ADDRESSES):
            self._keep(name, None)

    def _keep_certificates(self, certificates: SavedCertificates) -> None:
        if certificates != self.certificates:
            self.certificates = certificates
            self._keep(_CERTIFICATES, records.encode(certificates))

    def flush(self) -> bool:
        """Writes what an earlier try could not; returns whether all is on disk now."""
        for name, data in list(self._unsaved.items()):
            self._keep(name, data)
        return not self._unsaved

    def _keep(self, name: str, data: bytes | None) -> None:
        path = self.directory / name
        try:
            remove(path) if data is None else write_atomically(path, data)
        except OSError as error:
            self._unsaved[name] = data
            self.trouble = f"cannot write {path}: {error.strerror}"
            return
        self._unsaved.pop(name, None)
        if not self._unsaved:
            self.trouble = None

    def _read(self, name: str, kind: type[R]) -> R | None:
        path = self.directory / name
        data = read_if_there(path)
        if data is None:
            return None
        try:
            return records.decode(kind, data)
        except ValueError as error:
            raise _damaged(path, str(error)) from None

    def _read_identity(self, entropy: Entropy) -> Identity:
        saved = self._read(_IDENTITY, SavedIdentity)
        if saved is None:
            saved = SavedIdentity(
                random_bytes(entropy, _SECRET_SIZE), random_bytes(entropy, _SECRET_SIZE)
            )
            write_atomically(self.directory / _IDENTITY, records.encode(saved))
        if {len(saved.device), len(saved.tunnel)} != {_SECRET_SIZE}:
            raise _damaged(self.directory / _IDENTITY, "a key has 32 bytes")
        return _identity_of(saved)

    def _write_identity(self, saved: SavedIdentity) -> None:
        try:
            write_atomically(self.directory / _IDENTITY, records.encode(saved))
        except OSError as error:
            raise unusable(self.directory, error) from error


def _identity_of(saved: SavedIdentity) -> Identity:
    made = Identity.of(saved.device, saved.tunnel)
    if saved.before is None or saved.signature is None:
        return made
    return made.after(saved.before, saved.signature)


def take_credential(
    state: State, account: SavedAccount, certificate: str | None, key: str | None
) -> None:
    """Use a certificate and its key (PEM) from now, if they are given; raises Remedy."""
    if certificate is None and key is None:
        return
    if certificate is None or key is None:
        raise Remedy("a certificate and its key go together", remedy="give both, or neither")
    der, secret = read_device_credential(certificate.encode(), key.encode())
    folded(der, account.fqdn, public_of(secret))
    state.use_credential(der, secret)


def open_state(directory: Path, entropy: Entropy) -> State:
    """Open a state directory, making it where needed; raises Remedy, told for a person."""
    try:
        private_directory(directory)
        return State(directory, entropy)
    except OSError as error:
        raise unusable(directory, error) from error


def saved_account(directory: Path) -> SavedAccount | None:
    """Return the account in a state directory without touching anything; raises Remedy."""
    path = directory / _ACCOUNT
    try:
        data = read_if_there(path)
        return None if data is None else records.decode(SavedAccount, data)
    except OSError as error:
        raise Remedy(f"cannot read {path}: {error.strerror}", remedy="run it as root") from error
    except ValueError as error:
        raise _damaged(path, str(error)) from None


def further_identities(directory: Path) -> tuple[Path, ...]:
    """Return where the identities of a state directory besides its own are kept, sorted."""
    found = (directory / IDENTITIES).glob(f"*/{_ACCOUNT}")
    return tuple(sorted(path.parent for path in found))


def saved_accounts(directory: Path) -> dict[Path, SavedAccount]:
    """Return the accounts of a state directory by where they are kept, the first one first.

    Raises Remedy for the first one; a further one that is damaged is left out.
    """
    found = {directory: saved_account(directory)}
    for place in further_identities(directory):
        with suppress(Remedy):
            found[place] = saved_account(place)
    return {place: account for place, account in found.items() if account is not None}


def _damaged(path: Path, detail: str) -> Remedy:
    return Remedy(
        f"{path} is damaged ({detail}); it was left as it is",
        remedy="restore it from a backup, or remove it and log in again: ntm up USER@DOMAIN",
    )
