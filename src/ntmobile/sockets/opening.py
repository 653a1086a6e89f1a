"""Bringing a node up inside an application: its state, its session, its login."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from ntmobile.agent.failures import login_failure, registration_failure
from ntmobile.agent.files import private_directory
from ntmobile.agent.lock import AgentLock
from ntmobile.agent.records import SavedAccount
from ntmobile.agent.resolv_conf import Nameservers
from ntmobile.agent.session import Session
from ntmobile.agent.state import State, open_state
from ntmobile.errors import Remedy
from ntmobile.proto.io import Entropy
from ntmobile.proto.node.events import Registered
from ntmobile.runtime.clock import Clock
from ntmobile.runtime.resolver import Resolver
from ntmobile.sockets.logs import use_standard_logging
from ntmobile.sockets.model import FrameworkModel


@asynccontextmanager
async def opened_state(directory: Path, entropy: Entropy) -> AsyncIterator[State]:
    """Hold a state directory, which no other agent or node may use meanwhile; raises Remedy."""
    use_standard_logging()
    private_directory(directory)
    with AgentLock(directory):
        state = open_state(directory, entropy)
        try:
            yield state
        finally:
            state.flush()


@asynccontextmanager
async def running(
    state: State, account: SavedAccount, entropy: Entropy
) -> AsyncIterator[tuple[Session, FrameworkModel]]:
    """Run a session with a stack; it is not logged in yet. Raises Remedy."""
    model = FrameworkModel(entropy)
    try:
        resolver = Resolver(Nameservers(), Clock(), protect=model.protect)
        session = Session(state, account, resolver, entropy, model)

        def attach(registered: Registered) -> None:
            model.attach(session, registered)

        session.on_registered = attach
        async with session:
            yield session, model
    except OSError as error:
        if isinstance(error, Remedy):
            raise
        raise Remedy(f"the system refused: {error}", remedy="ntm bugreport") from error
    finally:
        model.close()


async def log_in(session: Session, password: str | None, authority: str | None) -> None:
    """Log in and register; raises Remedy when that does not work the first time."""
    session.login(password, authority)
    await session.changed.until(lambda: _is_decided(session))
    if session.login_failure is not None:
        raise login_failure(session.account, session.login_failure)
    reason = session.node.view().reason
    if session.registered is None:
        raise registration_failure(session.account, reason)


def _is_decided(session: Session) -> bool:
    registered = session.logged_in and session.registered is not None
    return registered or session.login_failure is not None or bool(session.node.view().reason)
