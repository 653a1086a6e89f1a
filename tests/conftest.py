"""What a failed test leaves for who sees nothing but the output of the run."""

import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from ntmobile.lab import entered

MOST = 2
"""Failures whose logs are shown, of one module: those behind them have the same to tell."""
SHOWN = pytest.StashKey[dict[str, int]]()
MACHINE = ("loadavg", "pressure/cpu", "pressure/io", "pressure/memory")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to a failure what the machine was doing, and what the programs of its labs wrote."""
    report = yield
    if report.failed:
        shown = item.config.stash.setdefault(SHOWN, {})
        module = item.nodeid.partition("::")[0]
        shown[module] = shown.get(module, 0) + 1
        report.sections.append(("the machine", machine(call.start, call.stop)))
        if shown[module] <= MOST:
            report.sections += [(f"the lab {lab.name}", lab.log_tails()) for lab in entered()]
    return report


def machine(began_s: float, ended_s: float) -> str:
    """When the test ran, as the logs tell the time, and how busy the machine was."""
    clock = [time.strftime("%H:%M:%S", time.gmtime(at)) for at in (began_s, ended_s)]
    lines = [f"ran from {clock[0]} to {clock[1]} UTC; {os.cpu_count()} processors"]
    for name in MACHINE:
        file = Path("/proc", name)
        if file.exists():
            lines += [f"{name}: {line}" for line in file.read_text().splitlines()]
    return "\n".join(lines)
