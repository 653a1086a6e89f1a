"""Which tests cite what: `@pytest.mark.paper("Fig. 6", "Tunnel Request")`, on a test or a module.

Read from the source, so that a list of all needs no collection.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.paper.page import ROOT

TESTS = ROOT / "tests"
SLOW = ("tests/system/", "tests/lab/", "tests/cli/", "tests/agent/", "tests/servers/")
"""Real processes, sockets and namespaces: too slow to run once for each mutation."""


@dataclass(frozen=True, order=True)
class Test:
    """A test and what it cites."""

    __test__ = False

    path: str
    name: str
    items: tuple[str, ...]
    """Its own marks, then its module's."""
    own: tuple[str, ...]

    @property
    def id(self) -> str:
        """What pytest calls it."""
        return f"{self.path}::{self.name}"

    @property
    def is_quick(self) -> bool:
        """Whether it can run in the mutation run."""
        return not self.path.startswith(SLOW)


@cache
def tests() -> tuple[Test, ...]:
    """Return every test that cites something, sorted."""
    found = (test for path in TESTS.rglob("test_*.py") for test in _of_file(path))
    return tuple(sorted(test for test in found if test.items))


def citing(item: str) -> tuple[Test, ...]:
    """Return the tests that cite an item."""
    return tuple(test for test in tests() if item in test.items)


def proving(item: str) -> tuple[Test, ...]:
    """Return the tests that claim, by a mark of their own, to fail without a message or key."""
    return tuple(test for test in tests() if item in test.own and test.is_quick)


def _of_file(path: Path) -> Iterator[Test]:
    tree = ast.parse(path.read_text())
    common = tuple(item for node in tree.body for item in _module_marks(node))
    relative = str(path.relative_to(ROOT))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith(
            "test_"
        ):
            own = tuple(item for each in node.decorator_list for item in _items(each))
            yield Test(relative, node.name, tuple(dict.fromkeys((*own, *common))), own)


def _module_marks(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
        marks = node.value.elts if isinstance(node.value, ast.List) else [node.value]
        for mark in marks:
            yield from _items(mark)


def _items(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.paper":
        for argument in node.args:
            yield ast.literal_eval(argument)
