"""What a maintainer needs to know of a node: `ntm bugreport`. No key, no password."""

import platform
from collections.abc import Iterator, Mapping

import msgspec

from ntmobile import __version__
from ntmobile.agent.logs import newest_lines
from ntmobile.agent.session import Session
from ntmobile.agent.state import State
from ntmobile.agent.views import StatusView

LOG_LINES = 200
STEPS = 256


def report_text(session: Session | None, state: State, status: StatusView) -> str:
    """Return the report."""
    return "\n".join(_lines(session, state, status))


def _lines(session: Session | None, state: State, status: StatusView) -> Iterator[str]:
    yield f"ntmobile {__version__}, Python {platform.python_version()}, {platform.platform()}"
    yield ""
    yield msgspec.json.format(msgspec.json.encode(status), indent=2).decode()
    yield from _counters("state", {"peers known": len(state.peers)})
    if session is not None:
        yield from _counters("packet loops", session.engine.counters())
        yield from _counters("adapter", session.loops.counters)
        yield from _counters("driver", session.driver.counters)
        yield from _counters("signalling dropped", session.node.rejected)
        yield from _steps(session)
    yield from ("", f"-- the last {LOG_LINES} lines of the log")
    yield from newest_lines(state.directory, LOG_LINES)


def _counters(what: str, counters: Mapping[str, int]) -> Iterator[str]:
    yield from ("", f"-- {what}")
    for name, count in sorted(counters.items()):
        if count:
            yield f"{name} = {count}"


def _steps(session: Session) -> Iterator[str]:
    yield from ("", f"-- the last {STEPS} messages")
    now = session.clock.now()
    for step in session.history.steps[-STEPS:]:
        age_s = (now - step.at) / 1e9
        arrow = "->" if step.sent else "<-"
        yield f"{age_s:10.3f} s ago  {step.here} {arrow} {step.there}  {step.message} {step.detail}"
