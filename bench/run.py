"""All measurements, one after the other: `make bench [ARGS="--rounds 3"]`.

Each part says what it lacks (root, iperf3, Go for wireguard-go, coturn, iroh) and how to get it,
and the next part runs all the same. Options go to every part.
"""

import subprocess
import sys
from pathlib import Path

PARTS = ("tunnel.py", "framework.py", "relay.py", "notification.py")


def main() -> int:
    here = Path(__file__).resolve().parent
    failed = []
    for part in PARTS:
        print(f"== bench/{part}", flush=True)
        done = subprocess.run([sys.executable, str(here / part), *sys.argv[1:]])
        if done.returncode != 0:
            failed.append(part)
    if failed:
        print(f"not measured: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
