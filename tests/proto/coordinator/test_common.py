import pytest
from tests.proto.coordinator.rig import Rig
from tests.proto.coordinator.test_carriage import inquiry
from tests.proto.parts import ALICE

from ntmobile.proto.coordinator import common as common_module
from ntmobile.proto.coordinator.common import hides
from ntmobile.wire.registration import Reason


@pytest.mark.parametrize("reason", Reason)
def test_a_stranger_is_told_unknown_for_refused_and_everything_else_as_it_is(
    reason: Reason,
) -> None:
    hidden = reason in (Reason.NOT_ALLOWED, Reason.REVOKED)

    assert hides(reason) is (Reason.UNKNOWN_NAME if hidden else reason)


def test_a_domain_that_invents_names_without_end_fills_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(common_module, "MAX_PARTNERS", 10)
    rig = Rig()
    alice = rig.node(ALICE, 1)
    dcmn = rig.share()
    for number in range(50):
        rig.ask(dcmn, inquiry(mn=f"n{number}.bob.example.net"))
    alice.heard.clear()

    rig.dc.withdraw("n49.bob.example.net", rig.now)
    rig.dc.withdraw("n3.bob.example.net", rig.now)
    rig.gather()

    assert alice.kinds() == ["Withdrawal"], "the latest is remembered, the oldest is not"
