"""A full disk at any write of AS, DC or operator: all or nothing, said why, and done once there is
room, without a restart.
"""

import inspect
import os

import pytest
from tests.servers.full_disk import LOGINS, VERBS
from tests.small_disk import Seen, run_on_small_disk

from ntmobile.servers.admin import Admin

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system of its own")
READING = {"users", "nodes", "reached_by", "test_policy", "policy", "issue_certificate"}
"""Verbs of the operator that write nothing here."""
SAID = ("the disk is full", "No space left on device; nothing was changed")
"""By the store, and where a file is written."""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """Every operation with room for no page, for one, and so on."""
    return run_on_small_disk("tests.servers.full_disk", tmp_path_factory.mktemp("disk"))


@pytest.mark.parametrize("name", [*VERBS, *LOGINS, "the DC's writer"])
def test_whatever_finds_no_room_is_undone_said_and_possible_again_with_room(
    seen: Seen, name: str
) -> None:
    """What running servers must hear of they hear of at the second try, if not at the first."""
    assert seen[name]["faults"] == []
    assert seen[name]["reasons"]
    assert all(any(said in reason for said in SAID) for reason in seen[name]["reasons"])


def test_an_enrolled_node_is_let_in_however_full_the_disk_is(seen: Seen) -> None:
    """The negative twin of the other logins."""
    assert seen["login by device key"] == {"reasons": [], "faults": []}


def test_no_verb_of_the_operator_is_left_out() -> None:
    verbs = inspect.getmembers(Admin, inspect.iscoroutinefunction)

    assert {name for name, _ in verbs if not name.startswith("_")} == set(VERBS) | READING
