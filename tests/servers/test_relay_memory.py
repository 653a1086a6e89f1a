"""Ours: docs/protocol.md section 10."""

import errno
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given
from structlog.testing import capture_logs
from tests.proto.relay.test_memory import a_key, a_path, records

from ntmobile.proto.relay.memory import ForgottenPath, Record, StoredKey, standing
from ntmobile.runtime.clock import Clock
from ntmobile.servers.relay_memory import SLACK, RelayMemory, frames


class Later(Clock):
    """A clock whose wall was set by hand."""

    def __init__(self, wall: float = 1_800_000_000.0) -> None:
        self.at = wall

    def wall(self) -> float:
        return self.at


def written(file: Path, *history: Record, clock: Clock | None = None) -> Path:
    """Let one run keep these and die."""
    memory = RelayMemory(file, clock or Later())
    for record in history:
        memory.keep(record)
    memory.close()
    return file


def restored(file: Path, clock: Clock | None = None) -> tuple[Record, ...]:
    memory = RelayMemory(file, clock or Later())
    memory.close()
    return memory.restored


def test_the_first_run_starts_with_nothing(tmp_path: Path) -> None:
    assert restored(tmp_path / "paths") == ()


def test_the_next_run_starts_with_what_the_last_one_kept(tmp_path: Path) -> None:
    file = written(tmp_path / "paths", a_key(1), a_path(2), a_path(3), ForgottenPath(b"\2" * 8))

    assert restored(file) == (a_key(1), a_path(3))


def test_the_next_run_adds_to_it(tmp_path: Path) -> None:
    file = written(tmp_path / "paths", a_key(1), a_path(2))
    written(file, a_path(3))

    assert restored(file) == (a_key(1), a_path(2), a_path(3))


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    file = written(tmp_path / "paths", a_path(1))

    assert file.stat().st_mode & 0o777 == 0o600


@given(history=records, data=st.data())
def test_a_file_that_was_cut_off_anywhere_gives_what_is_before(
    history: list[Record], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = written(tmp_path_factory.mktemp("cut") / "paths", *history)
    whole = file.read_bytes() if file.exists() else b""
    cut = data.draw(st.integers(0, len(whole)))
    before = [record for _, record, _ in frames(whole[:cut])]
    file.write_bytes(whole[:cut])

    assert restored(file) == standing(before)


@given(content=st.binary(max_size=200))
def test_a_file_of_anything_is_read_as_far_as_it_makes_sense(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("noise") / "paths"
    file.write_bytes(content)

    assert restored(file) == ()


def test_a_key_is_older_after_the_restart_and_one_that_is_over_is_gone(tmp_path: Path) -> None:
    file = written(tmp_path / "paths", a_key(1, 100), a_key(2, 30))

    (left,) = restored(file, Later(1_800_000_040.0))

    assert isinstance(left, StoredKey)
    assert left.sharing.lifetime_s == 60


def test_a_clock_that_was_set_back_makes_no_key_younger(tmp_path: Path) -> None:
    file = written(tmp_path / "paths", a_key(1, 100))

    assert restored(file, Later(1_700_000_000.0)) == (a_key(1, 100),)


def test_history_does_not_fill_the_disk(tmp_path: Path) -> None:
    file = tmp_path / "paths"
    memory = RelayMemory(file, Later())
    memory.keep(a_path(1))
    most = 0
    for index in range(20_000):
        memory.keep(a_path(2, index))
        most = max(most, file.stat().st_size)
    memory.close()

    assert most < SLACK + 4096
    assert restored(file) == (a_path(1), a_path(2, 19_999))


def test_where_nothing_can_be_written_rs_goes_on_and_says_so_once(tmp_path: Path) -> None:
    memory = RelayMemory(tmp_path / "nowhere" / "paths", Later())

    with capture_logs() as logs:
        for number in range(5):
            memory.keep(a_path(number))

    assert [entry["log_level"] for entry in logs] == ["error"]
    (tmp_path / "nowhere").mkdir()
    memory.keep(a_key(9))
    memory.close()
    assert len(restored(tmp_path / "nowhere" / "paths")) == 6, "all that stands, in one go"


def test_a_frame_that_the_disk_takes_half_of_spoils_nothing(tmp_path: Path) -> None:
    file = tmp_path / "paths"
    memory = RelayMemory(file, Later())
    memory.keep(a_path(1))
    size = file.stat().st_size

    with most_bytes_of_a_file(size + 10), capture_logs() as logs:
        memory.keep(a_path(2))

    assert logs[0]["why"] in (os.strerror(errno.ENOSPC), os.strerror(errno.EFBIG))
    assert restored(file) == (a_path(1),)
    memory.keep(a_path(3))
    memory.close()
    assert restored(file) == (a_path(1), a_path(2), a_path(3))


@contextmanager
def most_bytes_of_a_file(size: int) -> Iterator[None]:
    """Let the system take no more of any file, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
