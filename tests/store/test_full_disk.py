"""A full disk at any write of the store: all or nothing, called by its name, healed by room."""

import inspect
import os

import pytest
from tests.small_disk import Seen, run_on_small_disk
from tests.store.full_disk import OPERATIONS, TORN

from ntmobile.store import audit, authorities, federation, nodes, registrations, settings, users
from ntmobile.store.database import Database
from ntmobile.store.store import Store

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system of its own")
REPOSITORIES = (
    users.Users,
    authorities.Authorities,
    nodes.Nodes,
    registrations.Registrations,
    federation.Federation,
    audit.Audit,
    settings.Settings,
)
STARTS = ("come up", "migrate")


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """Every operation with room for no page, for one, and so on."""
    return run_on_small_disk("tests.store.full_disk", tmp_path_factory.mktemp("disk"))


@pytest.mark.parametrize("name", [*OPERATIONS, *STARTS])
def test_whichever_write_finds_no_room_nothing_is_half_written_and_room_heals_it(
    seen: Seen, name: str
) -> None:
    """Each of its writes was the first to fail; the store itself was never restarted."""
    assert seen[name]["faults"] == []
    assert set(seen[name]["reasons"]) == {"the disk is full"}


def test_what_is_half_written_is_found(seen: Seen) -> None:
    """The negative twin: one operation that is two transactions."""
    assert any("half written" in fault for fault in seen[TORN]["faults"])


def test_no_operation_of_the_store_that_writes_is_left_out() -> None:
    writing = {
        f"{repository.__name__.lower()}.{name}"
        for repository in REPOSITORIES
        for name, method in inspect.getmembers(repository, inspect.isfunction)
        if not name.startswith("_") and writes(repository, method)
    }
    writing |= {
        name
        for name, method in inspect.getmembers(Store, inspect.isfunction)
        if ".writing()" in inspect.getsource(method)
    }

    assert writing == set(OPERATIONS)
    parts = {type(each) for each in vars(Store(Database("sqlite+aiosqlite:///never"))).values()}
    assert parts == {Database, *REPOSITORIES}


def writes(repository: type, method: object) -> bool:
    """Whether a method opens a writing transaction, itself or through one of its own."""
    source = inspect.getsource(method)  # type: ignore[arg-type]
    own = [name for name in vars(repository) if name.startswith("_") and f"self.{name}(" in source]
    return ".writing()" in source or any(
        ".writing()" in inspect.getsource(vars(repository)[name]) for name in own
    )
