"""Runs a command that builds labs, without root: ``python -m ntmobile.lab.unprivileged``.

The command becomes root in a user namespace, with a ``/run`` of its own, where it may
make network namespaces. What it cannot do there is what only the real root can:
change the real machine.
"""

import os
import sys

PREPARE = 'mount -t tmpfs -o mode=755 tmpfs /run && exec "$@"'


def main() -> None:
    """Replace this process by the command given."""
    if len(sys.argv) < 2:
        print("usage: python -m ntmobile.lab.unprivileged COMMAND ...", file=sys.stderr)
        sys.exit(2)
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "--net"]
    os.execvp("unshare", [*unshare, "sh", "-c", PREPARE, "sh", *sys.argv[1:]])


if __name__ == "__main__":
    main()
