"""How many one-way delays a tunnel took, from DNS query to DNS answer, by the node's own trace."""

from collections.abc import Sequence
from typing import Any

from ntmobile.lab.errors import LabError

BETWEEN_DCS = 2
"""Node Information Request and Response, which the node does not see."""
THROUGH_RS = 2
"""From RS to CN and back, likewise."""

PAPER = {"Fig. 6": 8, "Fig. 7": 14}
"""What the paper's order of messages takes. Source: paper, Fig. 6 and Fig. 7."""


def one_way_delays(steps: Sequence[dict[str, Any]]) -> int:
    """Count the legs that followed upon each other, in the steps of `ntm trace --json`.

    Holds for nodes of two domains that share their keys: Key Sharing, which is HTTPS, is not
    counted. An acknowledgement delays nobody. Source: docs/protocol.md, 7. Raises LabError if
    the steps hold no Tunnel Request.
    """
    route_direction = 1 + BETWEEN_DCS + 1
    requests = [step for step in steps if step["message"] == "Tunnel Request"]
    if not requests:
        raise LabError("the trace has no Tunnel Request")
    if not requests[0]["sent"]:
        # Route Direction went to CN at the same time, by way of its own DC.
        return route_direction + 1 + 1
    exchanges = {"Challenge": 2, "Tunnel Response": 2}
    legs = sum(exchanges.get(step["message"], 0) for step in steps if not step["sent"])
    return route_direction + legs + (THROUGH_RS if _relayed(steps) else 0)


def figure_of(steps: Sequence[dict[str, Any]]) -> str:
    """Return which of the paper's figures the steps are."""
    return "Fig. 7" if _relayed(steps) else "Fig. 6"


def _relayed(steps: Sequence[dict[str, Any]]) -> bool:
    return any(step["there"] == "RS" for step in steps)
