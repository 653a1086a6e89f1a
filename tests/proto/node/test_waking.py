"""What the node's side of push does. Source: paper, Figs. 3, 4 and 6."""

import pytest
from tests.proto.node.rig import Rig

from ntmobile.proto.node.node import Node
from ntmobile.wire.registration import KeepAliveChoice, RegistrationRequest

pytestmark = pytest.mark.paper("Push")
TOKEN = "fcm:0123456789abcdef"


def test_a_node_that_is_woken_registers_at_once() -> None:
    rig = Rig().start()
    before = len(rig.sent(RegistrationRequest))

    rig.node.wake(rig.now)
    rig.settle()

    assert len(rig.sent(RegistrationRequest)) == before + 1


def test_how_a_node_is_reached_may_change_while_it_runs() -> None:
    rig = Rig().start()

    rig.node.choose(KeepAliveChoice.PUSH, TOKEN, rig.now)
    rig.settle()

    first, *_, last = rig.sent(RegistrationRequest)
    assert (first.keepalive, first.device_token) == (KeepAliveChoice.UDP, None)
    assert (last.keepalive, last.device_token) == (KeepAliveChoice.PUSH, TOKEN)


def test_a_node_that_left_is_not_woken() -> None:
    rig = Rig().start()
    node: Node = rig.node
    node.leave(rig.now)
    rig.settle()
    before = len(rig.sent(RegistrationRequest))

    node.wake(rig.now)
    rig.settle()

    assert len(rig.sent(RegistrationRequest)) == before
