"""Python loads this at its start where PYTHONPATH names this folder: nothing is sent again.

What was held while there was no way is sent all the same. For comparison only.
"""

from ntmobile.agent.engine import PacketLoops
from ntmobile.proto.node.events import Command, Resend

_carry_out = PacketLoops.carry_out


def _repeat_nothing(loops: PacketLoops, command: Command) -> None:
    _carry_out(loops, Resend(command.index, ()) if isinstance(command, Resend) else command)


PacketLoops.carry_out = _repeat_nothing  # type: ignore[method-assign]
