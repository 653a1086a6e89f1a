"""The unit of `ntm service`, as systemd judges it."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ntmobile.agent.service import Service
from ntmobile.errors import Remedy

STATE = Path("/var/lib/ntmobile")
MOST_EXPOSED = 2.5
"""systemd calls what is under 3 OK; a service as Debian installs it has 9.6."""
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


@pytest.fixture
def service(tmp_path: Path) -> Service:
    """With a program that is there, or systemd would complain of that."""
    program = tmp_path / "ntm"
    program.symlink_to(sys.executable)
    return Service(STATE, program)


def analyze(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, check=False)


@needs_systemd
def test_systemd_finds_nothing_wrong_with_the_unit(service: Service, tmp_path: Path) -> None:
    unit, users = service.install(tmp_path / "units", tmp_path / "users", tmp_path / "none")

    judged = analyze("verify", str(unit))

    assert (judged.returncode, judged.stderr) == (0, "")
    assert users.read_text().splitlines()[-1].startswith("u ntmobile - ")


@needs_systemd
def test_systemd_does_find_what_is_wrong(service: Service, tmp_path: Path) -> None:
    unit, _ = service.install(tmp_path / "units", tmp_path / "users", tmp_path)[:2]
    unit.write_text(service.unit.replace("RestrictRealtime=yes", "RestrictRealtime=perhaps"))

    assert "Failed to parse boolean value" in analyze("verify", str(unit)).stderr


@needs_systemd
def test_the_unit_is_little_exposed(
    service: Service, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    unit, _ = service.install(tmp_path / "units", tmp_path / "users", tmp_path)[:2]
    bare = tmp_path / "units" / "bare.service"
    bare.write_text(f"[Service]\nExecStart={service.program}\n")

    scores = {path: exposure(path) for path in (unit, bare)}

    record_property(
        "exposure by systemd-analyze security", f"{scores[unit]} (none: {scores[bare]})"
    )
    assert scores[unit] <= MOST_EXPOSED
    assert scores[bare] > 9


def exposure(unit: Path) -> float:
    said = analyze("security", "--offline=true", "--no-pager", str(unit)).stdout
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert found is not None, said
    return float(found[1])


def test_its_only_right_is_to_administer_the_network(service: Service) -> None:
    lines = service.unit.splitlines()

    assert "CapabilityBoundingSet=CAP_NET_ADMIN" in lines
    assert "AmbientCapabilities=CAP_NET_ADMIN" in lines
    assert "User=ntmobile" in lines


def test_each_state_has_a_service_of_its_own(service: Service) -> None:
    work = Service(Path("/var/lib/work"), service.program)

    assert (service.name, work.name) == ("ntmobile", "ntm-work")
    assert "StateDirectory=work\n" in work.unit


@pytest.mark.parametrize("state", ["/home/alice/state", "/var/lib", "/var/lib/a/b", "/var/lib/a b"])
def test_a_state_that_systemd_cannot_give_away_is_refused(state: str) -> None:
    with pytest.raises(Remedy) as refused:
        Service(Path(state), Path("/usr/bin/ntm"))

    assert refused.value.remedy


def test_removing_what_is_not_there_says_so(service: Service, tmp_path: Path) -> None:
    unit, *_ = service.install(tmp_path, tmp_path, tmp_path)

    assert service.remove(tmp_path) == unit
    with pytest.raises(Remedy, match=r"there is no .*ntmobile\.service"):
        service.remove(tmp_path)
