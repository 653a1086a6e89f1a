"""The agent of the proxy model: `python -m ntmobile.sockets DIRECTORY READY_DESCRIPTOR`."""

from ntmobile.agent.process import main
from ntmobile.sockets.proxy.model import ProxyModel

main(ProxyModel)
