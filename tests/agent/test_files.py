import subprocess
import sys
from pathlib import Path

import pytest

from ntmobile.agent.files import private_directory, read_if_there, remove, write_atomically
from ntmobile.agent.lock import AgentLock
from ntmobile.errors import Remedy

LIMITED = """
import resource, sys
from pathlib import Path
from ntmobile.agent.files import write_atomically
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_atomically(Path(sys.argv[1]), b"x" * 8192)
except OSError:
    sys.exit(7)
"""

RENAMED = """
import os, sys
from pathlib import Path
from ntmobile.agent.files import write_atomically
def tell(event, arguments):
    if event == "os.rename":
        print(oct(os.stat(arguments[0]).st_mode & 0o777))
sys.addaudithook(tell)
write_atomically(Path(sys.argv[1]), b"new")
write_atomically(Path(sys.argv[1]), b"new", mode=0o644)
"""


def test_a_file_has_its_mode_before_it_has_its_name(tmp_path: Path) -> None:
    """Whoever watches the directory, as polkit does, reads it as soon as it has its name."""
    run = subprocess.run(
        [sys.executable, "-c", RENAMED, tmp_path / "rule"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )

    assert run.stdout.split() == ["0o600", "0o644"]
    assert (tmp_path / "rule").stat().st_mode & 0o777 == 0o644


def test_what_was_written_is_read_back_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "account.json"

    write_atomically(path, b"old")
    write_atomically(path, b"new")

    assert read_if_there(path) == b"new"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_disk_that_refuses_keeps_the_old_content_and_no_debris(tmp_path: Path) -> None:
    path = tmp_path / "account.json"
    write_atomically(path, b"old")

    run = subprocess.run([sys.executable, "-c", LIMITED, path], check=False)

    assert run.returncode == 7
    assert read_if_there(path) == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_debris_of_a_crash_between_write_and_rename_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "account.json"
    write_atomically(path, b"old")
    (tmp_path / ".account.json.new").write_bytes(b"half of somethi")

    assert read_if_there(path) == b"old"
    write_atomically(path, b"new")

    assert read_if_there(path) == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_planted_for_the_new_file_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / ".account.json.new").symlink_to(victim)

    with pytest.raises(OSError, match="symbolic"):
        write_atomically(tmp_path / "account.json", b"new")

    assert victim.read_bytes() == b"precious"


def test_removing_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    remove(tmp_path / "account.json")

    assert read_if_there(tmp_path / "account.json") is None


def test_a_directory_where_anybody_may_write_is_no_place_for_keys(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)

    with pytest.raises(Remedy, match="anybody may write"):
        private_directory(tmp_path)

    assert tmp_path.stat().st_mode & 0o7777 == 0o1777


def test_a_lock_that_cannot_be_made_is_told_for_a_person(tmp_path: Path) -> None:
    with pytest.raises(Remedy, match="cannot use the state directory") as raised:
        AgentLock(tmp_path / "missing")

    assert "--state DIR" in raised.value.remedy
