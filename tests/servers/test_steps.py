"""What servers tell of their steps."""

from tests.clocks import Uneven

from ntmobile.proto.journal import Step
from ntmobile.servers.steps import Steps, seen


def test_steps_of_one_instant_are_told_with_one_time_of_day() -> None:
    clock = Uneven()
    steps = Steps(clock)
    for message in ("Direction Request", "NS Query", "Key Sharing"):
        steps.add(Step(clock.now(), message, "DC", "laptop.alice.example.org", False))

    told = seen([steps], clock)

    assert [step.message for step in told] == ["Direction Request", "NS Query", "Key Sharing"]
    assert len({step.at for step in told}) == 1
