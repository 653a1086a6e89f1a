"""Where a state directory is, when none is named."""

from collections.abc import Mapping
from pathlib import Path

SYSTEM_STATE = Path("/var/lib/ntmobile")
SOCKET = "control.sock"
LOG = "agent.log"
IDENTITIES = "identities"
"""Below the state directory: a directory USER@DOMAIN for each identity but the first."""


def state_directory(named: Path | None, environment: Mapping[str, str], *, root: bool) -> Path:
    """Return the directory: the named one, NTM_STATE, or the default of this user.

    An ordinary user without a state of their own gets the system's, where `ntm set operator=USER`
    may let them in.
    """
    if named is not None:
        return named
    if chosen := environment.get("NTM_STATE"):
        return Path(chosen)
    if root:
        return SYSTEM_STATE
    home = environment.get("XDG_STATE_HOME") or str(
        Path(environment.get("HOME", "/")) / ".local/state"
    )
    own = Path(home) / "ntmobile"
    if not own.exists() and _reachable(SYSTEM_STATE / SOCKET):
        return SYSTEM_STATE
    return own


def log_directory(directory: Path) -> Path:
    """Return where the agent logs that an identity's directory belongs to."""
    return directory.parents[1] if directory.parent.name == IDENTITIES else directory


def socket_path(directory: Path, descriptor: int) -> str:
    """Return a path of the socket short enough for any directory (108 bytes are the limit)."""
    plain = str(directory / SOCKET)
    return plain if len(plain.encode()) < 100 else f"/proc/self/fd/{descriptor}/{SOCKET}"


def _reachable(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False
