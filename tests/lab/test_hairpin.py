import pytest

from ntmobile.lab import Behaviour, Filtering, Lab, Mapping
from ntmobile.lab.prober import Prober, udp

pytestmark = pytest.mark.lab


@pytest.mark.parametrize("mapping", Mapping)
@pytest.mark.parametrize("filtering", Filtering)
def test_hairpinned_packets_obey_the_filtering_and_carry_the_outside_address(
    lab: Lab, mapping: Mapping, filtering: Filtering
) -> None:
    net = lab.internet()
    prober = Prober(lab.host("first", net), lab.host("second", net))
    home = lab.nat("home", net, Behaviour(mapping, filtering, hairpin=True))
    laptop, tablet = lab.host("laptop", home), lab.host("tablet", home)

    with prober, udp(laptop) as a, udp(tablet) as b:
        outside_a, outside_b = prober.mapped(a), prober.mapped(b)
        unasked = prober.reaches(a, outside_b, b)
        asked = prober.reaches(b, outside_a, a)

    if filtering is Filtering.ENDPOINT_INDEPENDENT:
        assert unasked is not None
        assert unasked.host == str(home.outside)
    else:
        assert unasked is None
    if mapping is Mapping.ENDPOINT_INDEPENDENT:
        # The one who was called has called before: both have punched.
        assert asked == outside_b
    else:
        # Calling made another mapping: the one called is still as closed as before.
        open_to_all = filtering is Filtering.ENDPOINT_INDEPENDENT
        assert (asked is not None) is open_to_all


def test_without_hairpinning_nothing_comes_back_inside(lab: Lab) -> None:
    net = lab.internet()
    prober = Prober(lab.host("first", net), lab.host("second", net))
    open_nat = Behaviour(filtering=Filtering.ENDPOINT_INDEPENDENT, hairpin=False)
    home = lab.nat("home", net, open_nat)
    laptop, tablet = lab.host("laptop", home), lab.host("tablet", home)

    with prober, udp(laptop) as a, udp(tablet) as b:
        outside_b = prober.mapped(b)

        assert prober.reaches(a, outside_b, b) is None
