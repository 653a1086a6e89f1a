"""The demo: ``python -m ntmobile.lab.demo``, or ``make demo``.

As root it is real: namespaces, NATs, BIND, the `ntm` command. An ordinary user gets the same in a
user namespace where the kernel allows that, and the simulator's story elsewhere.
"""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.text import Text

from ntmobile.errors import NTMobileError
from ntmobile.lab.demo.findings import Findings
from ntmobile.lab.demo.scene import Scene
from ntmobile.lab.demo.screen import open_screen
from ntmobile.lab.demo.setup import build, end_of_logs
from ntmobile.lab.demo.simulated import simulate
from ntmobile.lab.demo.story import Story
from ntmobile.lab.demo.summary import print_summary
from ntmobile.lab.lab import Lab, unavailable
from ntmobile.runtime.clock import Clock
from ntmobile.time import SECOND

TOOLS = {"named": "bind9", "dig": "bind9-dnsutils", "curl": "curl"}
"""Programs beyond those of the lab, with Debian's package of each."""
CHECK = "--check"
INTERRUPTED = 130
USAGE = f"""usage: python -m ntmobile.lab.demo [{CHECK}]
  {CHECK}  only say whether this process can run the real demo, and why not
"""


def main() -> None:
    """Run the demo that can be run here."""
    signal.signal(signal.SIGTERM, _interrupt)
    match sys.argv[1:]:
        case []:
            sys.exit(_run())
        case [word] if word == CHECK:
            sys.exit(obstacle())
        case _:
            print(USAGE, end="", file=sys.stderr)
            sys.exit(2)


def obstacle() -> str | None:
    """Return why this process cannot run the real demo, or None if it can."""
    if (reason := unavailable()) is not None:
        return reason
    missing = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    for what in ("ip tuntap add dev probe mode tun", "nft add table ip probe"):
        tried = subprocess.run(
            ["unshare", "--net", *what.split()], capture_output=True, text=True, check=False
        )
        if tried.returncode != 0:
            return f"{what.split()[0]}: {tried.stderr.strip() or 'no answer'}"
    return None


def _run() -> int:
    console = Console(highlight=False)
    try:
        reason = obstacle()
        if reason is None:
            return _real(console)
        if os.geteuid() != 0:
            reason = _in_user_namespace() or reason
        return simulate(console, reason)
    except NTMobileError as error:
        console.print(Text(f"demo: {error}", "bold red"), soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("\ninterrupted: everything is removed again")
        return INTERRUPTED


def _in_user_namespace() -> str:
    """Go on as root of a user namespace, if the demo can run there; else return why not."""
    namespace = [sys.executable, "-m", "ntmobile.lab.unprivileged"]
    demo = [sys.executable, "-m", "ntmobile.lab.demo"]
    tried = subprocess.run([*namespace, *demo, CHECK], capture_output=True, text=True, check=False)
    if tried.returncode == 0:
        os.execv(namespace[0], [*namespace, *demo])
    return tried.stderr.strip().splitlines()[-1] if tried.stderr.strip() else ""


def _real(console: Console) -> int:
    clock = Clock()
    began = clock.now()
    with Lab() as lab:
        try:
            findings = _story(lab, console, clock)
        except (NTMobileError, subprocess.TimeoutExpired) as error:
            _tell_failure(console, error, lab)
            return 1
        print_summary(console, findings, (clock.now() - began) / SECOND)
        if findings.broken_promises():
            _tell_logs(console, lab)
    return 1 if findings.broken_promises() else 0


def _story(lab: Lab, console: Console, clock: Clock) -> Findings:
    scene = Scene()
    with open_screen(scene, console, clock) as screen:
        if _is_without_root():
            screen.say("without root: all of this is in a user namespace")
        stage = build(lab, scene, screen, clock)
        return Story(stage, scene, screen, clock).tell()


def _is_without_root() -> bool:
    """Say whether this root is one of a user namespace that knows nobody else."""
    users_known = Path("/proc/self/uid_map").read_text().split()[2]
    return users_known == "1"


def _tell_logs(console: Console, lab: Lab) -> None:
    for line in end_of_logs(lab.directory):
        console.print(Text(line, "dim"), soft_wrap=True)


def _tell_failure(console: Console, error: Exception, lab: Lab) -> None:
    _tell_logs(console, lab)
    console.print(Text(f"demo: {error}", "bold red"), soft_wrap=True)
    remedy = "above: the ends of all logs; next: make demo, and report it if it fails again"
    console.print(f"      {remedy}", soft_wrap=True)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
