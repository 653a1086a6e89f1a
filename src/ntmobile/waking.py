"""For apps: `from ntmobile.waking import wake`, to be called when a push message arrives."""

import os
from pathlib import Path

from ntmobile.agent import client
from ntmobile.agent.places import state_directory


def wake(state: str | os.PathLike[str] | None = None) -> None:
    """Have the node contact its DC at once; returns when the DC has answered.

    State is the node's directory; None: NTM_STATE, or the default of this user. It is what
    `ntm wake` does. Raises Remedy (ntmobile.errors): the agent does not run, or the DC is silent.
    """
    named = None if state is None else Path(state)
    client.wake(state_directory(named, os.environ, root=os.geteuid() == 0))
