"""`ntm trace`, as the agent tells it."""

from tests.clocks import Uneven

from ntmobile.agent.history import Trace
from ntmobile.agent.status import trace_view
from ntmobile.proto.journal import Step
from ntmobile.proto.testimony import Seen, Witness, merge

OWN = "laptop.alice.example.org"


def test_what_a_node_noted_at_one_instant_stays_in_its_order_in_the_chart() -> None:
    clock = Uneven()
    at = clock.now()
    login = Step(at, "Login Response", OWN, "AS", False)
    registration = Step(at, "Registration Request", OWN, "DC", True)

    view = trace_view(OWN, Trace(OWN, at, (login, registration)), clock)

    told = [Seen(each.at, each.message, each.here, each.there, each.sent) for each in view.steps]
    drawn = merge([Witness(tuple(told), own=OWN)])
    assert [one.message for one in drawn] == ["Login Response", "Registration Request"]
