"""The VpnService type: a node on a TUN descriptor that the operating system's VPN service gives.

`attach` runs it; docs/vpn.md shows how on Android and elsewhere.
Source: paper, Implementation models (the VpnService type).
"""

from ntmobile.vpn.configuration import Configuration, Network
from ntmobile.vpn.service import Vpn, attach
from ntmobile.vpn.system import System

__all__ = ["Configuration", "Network", "System", "Vpn", "attach"]
