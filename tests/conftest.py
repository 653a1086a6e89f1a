"""What a run shows: figures, and of a failure all that who sees nothing else needs."""

import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from ntmobile.lab import entered

settings.register_profile(
    "house", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", settings.get_profile("house"), derandomize=False)
# The same examples in every run, however busy the machine; others by --hypothesis-profile=explore.
settings.load_profile("house")

MOST = 2
"""Failures whose logs are shown, of one module: those behind them have the same to tell."""
SHOWN = pytest.StashKey[dict[str, int]]()
LONGEST_FIRST = ("tests/system/", "tests/cli/", "tests/lab/", "tests/servers/")
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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where tests run side by side, begin with the files that take long."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: not item.nodeid.startswith(LONGEST_FIRST))


def pytest_configure(config: pytest.Config) -> None:
    """Name failures as they happen, for who sees a run that was cut off."""
    config.pluginmanager.register(Failures(config))


class Failures:
    """Writes one line for each failure at once; the whole of it comes at the end."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if report.failed and terminal is not None:
            crash = getattr(report.longrepr, "reprcrash", None)
            [why, *_] = (crash.message if crash else str(report.longrepr)).splitlines() or [""]
            terminal.write(f"\nFAILED {report.nodeid} ({report.when}): {why[:200]}\n")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show every figure that was measured."""
    reports = (terminalreporter.stats.get(outcome, ()) for outcome in ("passed", "failed"))
    measured = [figure for each in reports for report in each for figure in report.user_properties]
    if measured:
        terminalreporter.section("measured")
        lines = [f"{what:<58} {result}" for what, result in measured]
        terminalreporter.write("\n".join([*lines, ""]))


def machine(began_s: float, ended_s: float) -> str:
    """When the test ran, as the logs tell the time, and how busy the machine was."""
    clock = [time.strftime("%H:%M:%S", time.gmtime(at)) for at in (began_s, ended_s)]
    lines = [f"ran from {clock[0]} to {clock[1]} UTC; {os.cpu_count()} processors"]
    for name in MACHINE:
        file = Path("/proc", name)
        if file.exists():
            lines += [f"{name}: {line}" for line in file.read_text().splitlines()]
    return "\n".join(lines)
