"""Runs the tests that cite a message or key while it is broken, and reports which noticed."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass

from tests.paper.marks import Test, proving
from tests.paper.mutants import VARIABLE, Mutant, mutants
from tests.paper.page import ROOT
from tests.paper.report import UNPROVEN

PAGE = ROOT / "docs" / "mutation.md"
PATIENCE_S = 300
_RESULT = re.compile(r"^(?:FAILED|ERROR) (\S+?::\w+)", re.MULTILINE)
_ROW = re.compile(r"^\| (drop|swap) ([\w ]+?) \| (.+?) \| ([\d.]+) \|$", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """What became of the citing tests under one break."""

    mutant: Mutant
    noticed: tuple[str, ...]
    unmoved: tuple[str, ...]
    """Tests that bear the name and pass all the same: wrong citations, or weak tests."""
    seconds: float


def run(mutant: Mutant, tests: Iterable[Test] | None = None) -> Outcome:
    """Run the tests that bear the item's name, or others, with the item broken."""
    cited = [test.id for test in (proving(mutant.item) if tests is None else tests)]
    began = time.perf_counter()
    failed = _failures(cited, {VARIABLE: str(mutant)})
    seconds = time.perf_counter() - began
    noticed = tuple(test for test in cited if test in failed)
    return Outcome(mutant, noticed, tuple(test for test in cited if test not in failed), seconds)


def passing() -> tuple[str, ...]:
    """Return the cited tests that fail with nothing broken: none, or the run proves nothing."""
    cited = {test.id for mutant in mutants() for test in proving(mutant.item)}
    return tuple(sorted(_failures(sorted(cited), {})))


def _failures(cited: Iterable[str], broken: dict[str, str]) -> set[str]:
    """The tests that fail; of one with parameters, any one suffices."""
    command = [sys.executable, "-m", "pytest", "-q", "--tb=no", "-rfE", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-p", "tests.paper.mutants", *cited],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": "0"} | broken,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    if done.returncode not in (0, 1):
        raise RuntimeError(f"pytest could not run: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return set(_RESULT.findall(done.stdout))


HEAD = """# The mutation run

`scripts/mutate` wrote this page. Each message of [paper.md](paper.md) was dropped (no machine sends
it, none hears it), and each key of Table 1 swapped (every participant has other bytes for it than
the one it shares it with), in the memory of a test run of its own. Every test that bears the name
of the message or key must fail then; without a break all pass. A test holds the rows against the
marks, and CI runs a sample.

| break | tests that failed, of those that cite it | s |
|---|---|---|
"""


def page(outcomes: Iterable[Outcome]) -> str:
    """Return docs/mutation.md."""
    rows = "".join(_row(outcome) for outcome in outcomes)
    left_out = "".join(f"\nNot dropped: {name}; {why}.\n" for name, why in UNPROVEN.items())
    return HEAD + rows + left_out


def recorded() -> dict[str, set[str]]:
    """Return what the page says: the tests that noticed each break."""
    rows = _ROW.findall(PAGE.read_text())
    return {f"{act} {item}": set(re.findall(r"`([^`]+)`", cell)) for act, item, cell, _ in rows}


def _row(outcome: Outcome) -> str:
    count = f"{len(outcome.noticed)} of {len(outcome.noticed) + len(outcome.unmoved)}"
    names = ", ".join(f"`{test.removeprefix('tests/')}`" for test in outcome.noticed)
    return f"| {outcome.mutant} | {count}: {names} | {outcome.seconds:.1f} |\n"
