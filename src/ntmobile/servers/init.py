"""`ntm server init`: makes the directory of a domain's servers, all of it or nothing."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ntmobile.config import render
from ntmobile.errors import Remedy
from ntmobile.keys.certificates import make_ca, make_server
from ntmobile.proto.io import Entropy, random_bytes
from ntmobile.servers import policy
from ntmobile.servers.config import Role, ServerConfig
from ntmobile.servers.dns_signing import ZoneSigner
from ntmobile.servers.files import ServerDirectory, sync, write
from ntmobile.store import Store, StoreUnavailable, create

RECORD_TTL_S = 3600
_ANOTHER = "choose a directory that you may write to"
HEADER = """# Settings of the NTMobile servers of {domain}.
# After a change: kill -HUP the process of `ntm serve`, or start it again.

"""


async def initialise(
    directory: Path, settings: ServerConfig, *, entropy: Entropy, now_s: int
) -> ServerDirectory:
    """Make the directory; raises Remedy when it is in use or cannot be written.

    A crash at any moment leaves it as it was; what lies beside it is removed by the next try.
    """
    refuse_used(directory)
    try:
        with staged(directory) as stage:
            await _fill(ServerDirectory(stage), settings, entropy, now_s)
    except OSError as error:
        raise unwritable(directory, error) from None
    except StoreUnavailable as error:
        raise Remedy(
            f"{directory}: {error.reason}", remedy=f"nothing was made; {error.remedy}"
        ) from None
    return ServerDirectory(directory)


def unwritable(directory: Path, error: OSError) -> Remedy:
    """Say why a directory could not be made, and what to do."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    way = "make room, then the same command again" if full else _ANOTHER
    return Remedy(
        f"{error.filename or directory}: {error.strerror}", remedy=f"nothing was made; {way}"
    )


def refuse_used(directory: Path) -> None:
    """Raises Remedy unless the directory is missing or empty."""
    if directory.is_dir() and not any(directory.iterdir()):
        return
    if directory.exists():
        what = "holds a server already" if (directory / "server.toml").exists() else "is not empty"
        raise Remedy(
            f"{directory} {what}",
            remedy="nothing was changed; name another directory, or ntm server show to look at it",
        )


def parent_records(settings: ServerConfig, signer: ZoneSigner | None) -> tuple[str, ...]:
    """Return the lines for the parent zone: delegation, glue, key (RFC 1035, section 5).

    Signer None: the zone is not signed.
    """
    server = settings.name_of(Role.DC)
    yielded = [f"{settings.domain}. {RECORD_TTL_S} IN NS {server}."]
    for address in settings.site(Role.DC).addresses:
        kind = "A" if address.version == 4 else "AAAA"
        yielded.append(f"{server}. {RECORD_TTL_S} IN {kind} {address}")
    if signer is not None:
        yielded.append(f"{settings.domain}. {RECORD_TTL_S} IN {signer.ds}")
    return tuple(yielded)


@contextmanager
def staged(directory: Path) -> Iterator[Path]:
    """A directory to fill, which takes the real one's place at the end."""
    # A mount point cannot be replaced, so there its files move in one by one, settings last.
    mounted = directory.is_mount()
    home = directory if mounted else directory.absolute().parent
    stage = home / f".{directory.absolute().name}.ntm-init"
    home.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(mode=0o700)
    try:
        yield stage
        if mounted:
            _move_in(stage, directory)
        else:
            os.rename(stage, directory)
        sync(home)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _move_in(stage: Path, directory: Path) -> None:
    for file in sorted(stage.iterdir(), key=lambda file: file.name == "server.toml"):
        file.rename(directory / file.name)


async def _fill(
    directory: ServerDirectory, settings: ServerConfig, entropy: Entropy, now_s: int
) -> None:
    _write_keys(directory, settings, entropy, now_s)
    domain = settings.domain
    write(directory.policy_file, policy.FRESH.format(domain=domain).encode())
    if settings.server.whole_zone:
        write(directory.zone_file, f"; Further records of {domain}.\n".encode())
    url = directory.store_url(settings)
    create(url)
    store = await Store.open(url)
    await store.close()
    write(directory.settings_file, (HEADER.format(domain=domain) + render(settings)).encode())


def _write_keys(
    directory: ServerDirectory, settings: ServerConfig, entropy: Entropy, now_s: int
) -> None:
    addresses = settings.addresses
    ca = make_ca(settings.domain, addresses, serial=serial(entropy), now_s=now_s)
    made = make_server(ca, settings.names, addresses, serial=serial(entropy), now_s=now_s)
    write(directory.ca_file, ca.certificate)
    write(directory.path / "ca.key", ca.key, private=True)
    directory.write_tls(made, ca)
    directory.write_domain_key(random_bytes(entropy, 32))
    directory.write_zone_key(random_bytes(entropy, 32))
    if settings.push.web is not None:
        directory.write_vapid_key(settings.push.web.vapid_key, random_bytes(entropy, 32))


def serial(entropy: Entropy) -> int:
    """Return a certificate's number: positive, at most 20 octets (RFC 5280, section 4.1.2.2)."""
    return entropy.getrandbits(158) | 1
