"""What an operator changes while the servers run: users, nodes, keys, foreign domains, policy.

Every change is first in the store or the file, then told to the running servers.
"""

import asyncio
import re
from collections import Counter as Counts
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from ntmobile.config import domain_name, is_label
from ntmobile.errors import Remedy
from ntmobile.keys.certificates import Credential, read_certificate
from ntmobile.keys.identity import public_of
from ntmobile.keys.node_certificates import device_credential, issue
from ntmobile.keys.passwords import (
    AUTHORITY_SIZE,
    SALT_SIZE,
    authority_digest,
    authority_text,
    check_new_password,
    hash_password,
)
from ntmobile.proto.coordinator.policy import Federation, Policy, Subject
from ntmobile.proto.coordinator.settings import StoredNode
from ntmobile.proto.io import Entropy, random_bytes
from ntmobile.servers.admin_socket import Told, tell
from ntmobile.servers.config import ServerConfig, parse_server
from ntmobile.servers.files import ServerDirectory, write
from ntmobile.servers.init import serial
from ntmobile.servers.policy import PolicyFile, parse_policy
from ntmobile.store import Authority, Counter, Store, StoredDevice, User
from ntmobile.wire.registration import KeepAliveChoice, Reason

DEVICE_KEY_SIZE = 32
_NODES = "ntm admin node list"


@dataclass(frozen=True, slots=True)
class Judged:
    """What policy says of one node asking for another."""

    allowed: bool
    reason: Reason | None
    missing: tuple[str, ...] = ()
    """Names of this domain that no node has: judged by name and user alone."""


class Admin:
    """The operator's verbs; each raises Remedy, or StoreUnavailable."""

    def __init__(
        self, directory: ServerDirectory, settings: ServerConfig, store: Store, entropy: Entropy
    ) -> None:
        """Works on the store itself, whether servers run or not; see `opened`."""
        self.directory = directory
        self.settings = settings
        self.store = store
        self._entropy = entropy

    async def add_user(self, name: str, password: str | None, at: float) -> None:
        """Add a user; without a password only pre-authorised keys enrol its nodes."""
        if not is_label(name):
            raise Remedy(
                f"{name!r} cannot be a user: it becomes part of names like laptop.USER."
                f"{self.settings.domain}",
                remedy="take lower-case letters, digits and hyphens, at most 63",
            )
        hashed = None if password is None else self._hashed(password)
        if not await self.store.users.add(name, hashed, at):
            raise Remedy(
                f"there is a user {name} already; nothing was changed",
                remedy=f"to change the password: ntm admin user passwd {name}",
            )

    async def set_password(self, name: str, password: str) -> None:
        """Replace a password; enrolled nodes go on with their device keys."""
        if not await self.store.users.set_password(name, self._hashed(password)):
            raise _no_user(name)

    async def set_disabled(self, name: str, *, disabled: bool) -> Told:
        """Shut a user's nodes out, or let them in again."""
        if not await self.store.users.set_disabled(name, disabled=disabled):
            raise _no_user(name)
        return await self._tell()

    async def remove_user(self, name: str, at: float) -> Told:
        """Remove a user, revoking its nodes."""
        if not await self.store.users.remove(name, at):
            raise _no_user(name)
        return await self._tell()

    async def users(self) -> tuple[tuple[User, int], ...]:
        """Every user, and how many nodes each has."""
        counts = Counts(node.user for node in await self.store.nodes.list())
        return tuple((user, counts[user.name]) for user in await self.store.users.list())

    async def nodes(self, user: str | None) -> tuple[StoredDevice, ...]:
        """Every node, or a user's."""
        return await self.store.nodes.list(user)

    async def reached_by(self, now: float) -> dict[str, str]:
        """How the DC reaches each node that is registered: udp, tcp or push, and what is wrong."""
        kept = await self.store.registrations.valid(now)
        return {each.node.fqdn: way_of(each.node) for each in kept}

    async def revoke(self, fqdn: str, at: float) -> Told:
        """Refuse a node's device key for ever; its tunnels close within a second."""
        if not await self.store.nodes.revoke(self.fqdn(fqdn), at):
            raise self._no_node(fqdn)
        return await self._tell()

    async def allow_rekey(self, fqdn: str) -> None:
        """Let the user of a node enrol a new device key under its name, once, by password."""
        if not await self.store.nodes.allow_rekey(self.fqdn(fqdn)):
            raise self._no_node(fqdn)

    async def create_key(
        self,
        user: str,
        at: float,
        *,
        reusable: bool,
        ephemeral: bool,
        tags: tuple[str, ...],
        lifetime_s: float | None,
    ) -> tuple[str, Authority]:
        """Make a pre-authorised key; its text is not kept and cannot be shown again."""
        for tag in tags:
            if not is_label(tag):
                raise Remedy(f"{tag!r} is no tag", remedy="take lower-case letters and digits")
        text = authority_text(random_bytes(self._entropy, AUTHORITY_SIZE))
        digest = authority_digest(text)
        added = await self.store.authorities.add(
            digest,
            user,
            at,
            reusable=reusable,
            ephemeral=ephemeral,
            tags=tags,
            expires_at=None if lifetime_s is None else at + lifetime_s,
        )
        authority = await self.store.authorities.find(digest)
        if added is None or authority is None:
            raise _no_user(user)
        return text, authority

    async def issue_certificate(
        self, user: str, label: str, at: float, *, lifetime: timedelta
    ) -> tuple[str, Credential]:
        """Make a key and a certificate that let a node of that name in, once or more often."""
        if not is_label(label):
            raise Remedy(f"{label!r} is no name", remedy="take lower-case letters and digits")
        if await self.store.users.get(user) is None:
            raise _no_user(user)
        fqdn = f"{label}.{user}.{self.settings.domain}"
        secret = random_bytes(self._entropy, DEVICE_KEY_SIZE)
        number = serial(self._entropy)
        der = issue(
            self.directory.ca(),
            fqdn,
            public_of(secret),
            serial=number,
            now_s=int(at),
            lifetime=lifetime,
        )
        return fqdn, device_credential(der, secret)

    async def remove_key(self, number: int) -> None:
        """Make a pre-authorised key worthless; nodes it enrolled stay."""
        if not await self.store.authorities.remove(number):
            raise Remedy(f"there is no key {number}", remedy="ntm admin key list")

    async def add_domain(
        self, domain: str, at: float, *, key: str | None, ca: bytes | None
    ) -> Told:
        """List a foreign domain, pinning its key or its CA."""
        name = _domain(domain)
        if name == self.settings.domain:
            raise Remedy(f"{name} is this domain itself", remedy="ntm admin federation list")
        pin = None if key is None else _key_pin(key)
        if ca is not None:
            read_certificate(ca)
        await self.store.federation.add(name, at, key_pin=pin, ca=ca)
        return await self._tell()

    async def remove_domain(self, domain: str) -> Told:
        """Take a foreign domain off the list and forget its key."""
        if not await self.store.federation.remove(_domain(domain)):
            raise Remedy(f"{domain} is not listed", remedy="ntm admin federation list")
        return await self._tell()

    async def set_mode(self, mode: Federation) -> Told:
        """Write the federation mode into `server.toml`, leaving all else there as it is."""
        file = self.directory.settings_file
        edited = set_mode(file.read_text(), mode)
        if parse_server(edited, str(file)).federation.mode is not mode:
            raise Remedy(
                f"{file} is written in a way that this command cannot edit; nothing was changed",
                remedy=f'write mode = "{mode}" under [federation] and reload ntm serve',
            )
        return await self._replace(file, edited)

    async def set_policy(self, toml: str, name: str) -> Told:
        """Replace `policy.toml`; a wrong one changes nothing."""
        parse_policy(toml, name)
        return await self._replace(self.directory.policy_file, toml)

    async def test_policy(self, mn: str, cn: str) -> Judged:
        """Ask what the DC would say; names without the domain are meant inside it."""
        names = [self._node_name(name) for name in (mn, cn)]
        policy = await self.policy()
        file = self.directory.policy()
        ends = [await self._subject(file, name) for name in names]
        reason = policy.refuses(*ends)
        known = [await self._may_exist(name) for name in names]
        missing = tuple(name for name, is_known in zip(names, known, strict=True) if not is_known)
        return Judged(reason is None, reason, missing)

    async def policy(self) -> Policy:
        """Return what a DC that starts now would go by."""
        return await current_policy(self.directory, self.store)

    def fqdn(self, name: str) -> str:
        """Return the full name of a node given as laptop.alice or in full."""
        given = name.lower().removesuffix(".")
        suffix = "." + self.settings.domain
        return given if given.count(".") > 1 or given.endswith(suffix) else given + suffix

    def _node_name(self, name: str) -> str:
        """Return the full name of what may be a node, here or elsewhere; raises Remedy."""
        fqdn, own = self.fqdn(name), "." + self.settings.domain
        labels = fqdn.split(".")
        count = len(fqdn.removesuffix(own).split(".")) if fqdn.endswith(own) else None
        right = count == 2 if count is not None else len(labels) >= 4
        if not (right and all(map(is_label, labels))):
            raise Remedy(
                f"{name!r} is no name of a node",
                remedy=f"name it like laptop.alice or pc.bob.ntm.example.net; {_NODES}",
            )
        return fqdn

    async def _may_exist(self, fqdn: str) -> bool:
        """Whether a node has the name; another domain's may always."""
        foreign = not fqdn.endswith("." + self.settings.domain)
        return foreign or await self.store.nodes.get(fqdn) is not None

    async def _subject(self, file: PolicyFile, fqdn: str) -> Subject:
        node = await self.store.nodes.get(fqdn)
        if node is None:
            user = fqdn.split(".")[1] if fqdn.endswith("." + self.settings.domain) else ""
            return Subject(fqdn, file.groups_of(user, fqdn))
        return Subject(fqdn, (*file.groups_of(node.user, fqdn), *node.tags))

    async def _replace(self, file: Path, content: str) -> Told:
        # Counted first: a generation without a change is harmless, a change without one is not.
        await self.store.settings.next(Counter.GENERATION)
        try:
            write(file, content.encode())
        except OSError as error:
            raise Remedy(
                f"{file} cannot be written: {error.strerror}; nothing was changed",
                remedy="make room, or run the command as the user that owns the directory",
            ) from None
        return await self._tell()

    async def _tell(self) -> Told:
        return await asyncio.to_thread(tell, self.directory.path)

    def _hashed(self, password: str) -> str:
        salt = random_bytes(self._entropy, SALT_SIZE)
        return hash_password(check_new_password(password), salt)

    def _no_node(self, fqdn: str) -> Remedy:
        return Remedy(f"there is no node {self.fqdn(fqdn)}", remedy=_NODES)


@asynccontextmanager
async def opened(path: Path, entropy: Entropy) -> AsyncIterator[Admin]:
    """The operator's verbs on a servers' directory; raises Remedy or StoreUnavailable."""
    directory = ServerDirectory(path)
    settings = directory.config()
    store = await Store.open(directory.store_url(settings))
    try:
        yield Admin(directory, settings, store, entropy)
    finally:
        await store.close()


async def current_policy(directory: ServerDirectory, store: Store) -> Policy:
    """Return all that the DC goes by: both settings files, the list of domains, revocations.

    Raises ConfigError or StoreUnavailable.
    """
    settings = directory.config()
    policy = directory.policy().policy(
        settings.domain,
        settings.federation.mode,
        listed=await store.federation.listed(),
        revoked=await store.nodes.revoked(),
    )
    return replace(policy, pins=await store.federation.pins())


def set_mode(toml: str, mode: Federation) -> str:
    """Return the settings with another federation mode; comments and order stay."""
    line = f'mode = "{mode}"'
    header = re.compile(r"^[ \t]*\[[ \t]*federation[ \t]*\][^\n]*$", re.MULTILINE)
    section = header.search(toml)
    if section is None:
        return f"{toml.rstrip()}\n\n[federation]\n{line}\n"
    following = re.compile(r"^[ \t]*\[", re.MULTILINE).search(toml, section.end())
    end = following.start() if following else len(toml)
    body, found = re.subn(
        r"^[ \t]*mode[ \t]*=[^\n#]*?([ \t]*#[^\n]*)?$",
        lambda match: line + (match[1] or ""),
        toml[section.end() : end],
        count=1,
        flags=re.MULTILINE,
    )
    if not found:
        body = f"\n{line}{body}"
    return toml[: section.end()] + body + toml[end:]


def _domain(text: str) -> str:
    try:
        return domain_name(text)
    except ValueError as error:
        raise Remedy(str(error), remedy="name it like ntm.example.net") from None


def _key_pin(text: str) -> str:
    digest = text.removeprefix("SHA256:").lower()
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise Remedy(
            f"{text!r} is no fingerprint of a domain key; nothing was changed",
            remedy="its operator finds it with: ntm server show DIR",
        )
    return "SHA256:" + digest


def way_of(node: StoredNode) -> str:
    """Say how the DC reaches a node."""
    if node.keepalive is KeepAliveChoice.PUSH and node.push_token is None:
        return "udp (device token gone)" if node.gone_token else "udp (no device token)"
    if node.keepalive is KeepAliveChoice.TCP:
        return f"tcp ({node.notifier})" if node.is_held else "udp (no NS)"
    return node.keepalive.value


def _no_user(name: str) -> Remedy:
    return Remedy(f"there is no user {name}; nothing was changed", remedy="ntm admin user list")
