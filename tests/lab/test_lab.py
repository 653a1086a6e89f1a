import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ntmobile.lab import Lab, LabError, entered, unavailable
from ntmobile.lab import sweep as sweep_module
from ntmobile.lab.lab import LOG_LINES
from ntmobile.lab.sweep import namespaces_of, sweep
from ntmobile.lab.waiting import wait_until

pytestmark = pytest.mark.lab
PATIENCE_S = 60.0

OWNER = """
import sys
from ntmobile.lab import Lab
with Lab() as lab:
    net = lab.internet()
    laptop = lab.host("laptop", lab.nat("home", net))
    laptop.popen(["setsid", "sh", "-c", "sleep 600 & sleep 600"])
    daemon = laptop.run(["sh", "-c", "setsid sleep 600 >&- 2>&- & echo $!"])
    print(lab.name, lab.undertaker_pid, daemon.stdout.strip(), flush=True)
    sys.stdin.read()
"""


def test_leaving_a_lab_ends_its_processes_and_removes_its_namespaces() -> None:
    require_lab()
    with Lab() as lab:
        host = lab.host("host", lab.internet())
        daemon = host.run(["sh", "-c", "setsid sleep 600 >&- 2>&- & echo $!"]).stdout
        held = os.pidfd_open(int(daemon))

    assert ended(held)
    assert left_of(lab.name) == []


def test_an_error_inside_a_lab_leaves_nothing_behind() -> None:
    require_lab()

    lab = Lab()
    with pytest.raises(LabError, match="no addresses"), lab:
        lab.host("half-made", lab.nat("home", lab.internet()), ipv6="2001:db8::9")

    assert left_of(lab.name) == []


@pytest.mark.parametrize("fatal", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_owner_leaves_nothing_behind(fatal: signal.Signals) -> None:
    require_lab()
    owner, lab, _, daemon = start_owner()

    end(owner, fatal)

    assert ended(daemon)
    assert eventually(lambda: left_of(lab) == [])


def test_the_next_lab_sweeps_what_even_the_undertaker_could_not() -> None:
    require_lab()
    owner, lab, undertaker, daemon = start_owner()

    os.kill(undertaker, signal.SIGKILL)
    end(owner, signal.SIGKILL)
    remained = left_of(lab)
    sweep()

    assert remained != []
    assert ended(daemon)
    # A lab of another process that begins just now sweeps too.
    assert eventually(lambda: left_of(lab) == [])


def test_a_sweep_spares_the_labs_of_the_living() -> None:
    require_lab()
    with Lab() as lab:
        host = lab.host("host")

        assert lab.name not in sweep()
        assert host.run(["echo", "alive"]).stdout == "alive\n"


def test_an_error_that_leaves_a_lab_takes_the_end_of_every_log_along() -> None:
    require_lab()
    lab = Lab()
    lab.logs["a program"] = "\n".join(["first", *["more"] * LOG_LINES]).__str__
    lab.logs["another"] = Path("/nowhere").read_text

    with pytest.raises(LabError, match="no machine") as raised, lab:
        leave_by_error(lab)

    [note] = raised.value.__notes__
    title, *lines = note.splitlines()
    assert (title, lines[:LOG_LINES]) == ("-- a program", ["more"] * LOG_LINES)
    assert (lines[LOG_LINES], "No such file" in lines[-1]) == ("-- another", True)
    assert lab not in entered()


def test_a_sweep_spares_a_lab_that_is_just_being_made(monkeypatch: pytest.MonkeyPatch) -> None:
    require_lab()
    mark = sweep_module.owner_mark

    def sweep_first(pid: int) -> str:
        if pid == os.getpid():
            sweep()
        return mark(pid)

    monkeypatch.setattr(sweep_module, "owner_mark", sweep_first)
    with Lab() as lab:
        monkeypatch.undo()
        assert lab.host("host").run(["echo", "alive"]).stdout == "alive\n"


def test_machines_are_made_in_an_entered_lab_only() -> None:
    with pytest.raises(LabError, match="enter the lab"):
        Lab().internet()


def test_an_ordinary_user_can_have_a_lab_in_a_user_namespace(tmp_path: Path) -> None:
    require_lab()
    script = (
        "from ntmobile.lab import Lab\n"
        "with Lab() as lab:\n"
        "    net = lab.internet()\n"
        "    server = lab.host('server', net)\n"
        "    laptop = lab.host('laptop', lab.nat('home', net))\n"
        "    dns = lab.dns_parent({'example.org': ['www A 192.0.2.7']}, net)\n"
        "    laptop.run(['ping', '-c', '1', str(server.ipv4)])\n"
        "    print(laptop.run(['dig', '+short', 'www.example.org']).stdout)\n"
    )
    python = interpreter_for_anyone()

    done = as_nobody([python, "-m", "ntmobile.lab.unprivileged", python, "-c", script])

    assert done.stderr == ""
    assert done.stdout.strip() == "192.0.2.7"


def interpreter_for_anyone() -> str:
    for python in (sys.executable, "/usr/bin/python3"):
        if as_nobody([python, "-c", "import ntmobile.lab"]).returncode == 0:
            return python
    pytest.skip("an ordinary user may not read our Python, and no other one fits")


def as_nobody(command: list[str]) -> subprocess.CompletedProcess[str]:
    ordinary = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    # Through a shell: what setpriv itself starts, it may still start as root.
    ordinary += ["--bounding-set=-all", "--inh-caps=-all", "sh", "-c", 'exec "$@"', "sh"]
    environment = os.environ | {"PYTHONPATH": ":".join(sys.path)}
    return subprocess.run(
        [*ordinary, *command], capture_output=True, text=True, cwd="/", env=environment
    )


def start_owner() -> tuple[subprocess.Popen[str], str, int, int]:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    lab, undertaker, daemon = owner.stdout.readline().split()
    return owner, lab, int(undertaker), os.pidfd_open(int(daemon))


def end(owner: subprocess.Popen[str], fatal: signal.Signals) -> None:
    owner.send_signal(fatal)
    owner.wait()
    for stream in (owner.stdin, owner.stdout):
        assert stream is not None
        stream.close()


def left_of(lab: str) -> list[str]:
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    processes = subprocess.run(["pgrep", "-f", f"{lab}-"], capture_output=True).stdout
    directory = Path("/run/ntmobile-lab") / lab
    return [
        *(str(path) for path in namespaces_of(lab)),
        *(line for line in mounts if lab in line),
        *processes.decode().split(),
        *([str(directory)] if directory.exists() else []),
    ]


def ended(process: int) -> bool:
    try:
        return bool(select.select([process], [], [], PATIENCE_S)[0])
    finally:
        os.close(process)


def eventually(condition: Callable[[], bool]) -> bool:
    wait_until(condition, "what a second process does", PATIENCE_S)
    return True


def leave_by_error(lab: Lab) -> None:
    assert lab in entered()
    raise LabError("there is no machine")


def require_lab() -> None:
    if (reason := unavailable()) is not None:
        pytest.skip(f"no lab here: {reason}")
