"""`ntm service`: the agent as a service of systemd."""

import subprocess
import sys
from pathlib import Path

import typer

from ntmobile.agent.places import SYSTEM_STATE
from ntmobile.agent.service import Service
from ntmobile.agent.state import saved_account
from ntmobile.cli.node_output import StateOption, command, note, show
from ntmobile.errors import Remedy

SYSTEMD_RUNS = Path("/run/systemd/system")


@command
def unit(state: StateOption = None) -> None:
    """Print the unit file."""
    show(_service(state).unit.rstrip())


@command
def install(state: StateOption = None) -> None:
    """Write the unit and its user to /etc, and have systemd read them."""
    service = _service(state)
    for path in service.install():
        show(str(path))
    _tell_systemd(["systemd-sysusers"], ["systemctl", "daemon-reload"])
    if saved_account(service.state) is None:
        first = f"ntm up USER@DOMAIN --state {service.state}; ntm down --state {service.state}"
        note(f"     first: {first}")
    note(f"     next: systemctl enable --now {service.name}")


@command
def remove(state: StateOption = None) -> None:
    """Remove the unit; the state stays."""
    service = _service(state)
    if SYSTEMD_RUNS.exists():
        _tell_systemd(["systemctl", "disable", "--now", service.name])
    show(f"{service.remove()} is gone")
    _tell_systemd(["systemctl", "daemon-reload"])


def register(app: typer.Typer) -> None:
    """Add the commands."""
    service = typer.Typer(help="Run the agent by systemd, without root.", no_args_is_help=True)
    for function in (unit, install, remove):
        service.command()(function)
    app.add_typer(service, name="service")


def _service(state: Path | None) -> Service:
    # Not resolved: the environment is known by where its programs are, not by its interpreter.
    program = Path(sys.executable).absolute().with_name("ntm")
    return Service(SYSTEM_STATE if state is None else state.absolute(), program)


def _tell_systemd(*commands: list[str]) -> None:
    if not SYSTEMD_RUNS.exists():
        note("systemd does not run here: the files wait for it")
        return
    for each in commands:
        done = subprocess.run(each, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Remedy(f"{' '.join(each)} failed: {done.stderr.strip()}", remedy="journalctl -xe")
