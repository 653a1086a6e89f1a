"""The mutation run's report is about the tests as they are, and a sample of it runs here."""

import pytest
from tests.paper.marks import proving
from tests.paper.mutants import Mutant, mutants
from tests.paper.mutation import recorded, run

SAMPLE = (Mutant("drop", "Relay Direction"), Mutant("swap", "Ktmp"))


def test_the_report_has_every_break_and_every_test_that_cites_what_is_broken() -> None:
    cited = {
        str(mutant): {test.id.removeprefix("tests/") for test in proving(mutant.item)}
        for mutant in mutants()
    }

    assert recorded() == cited, "run scripts/mutate"


@pytest.mark.parametrize("mutant", SAMPLE, ids=str)
def test_each_citing_test_fails_without_what_it_cites(mutant: Mutant) -> None:
    outcome = run(mutant)

    assert outcome.unmoved == ()
    assert len(outcome.noticed) >= 2


def test_a_break_of_what_a_test_is_not_about_lets_it_pass() -> None:
    """The negative twin: a login needs no RS, so its tests do not notice that one is gone."""
    outcome = run(Mutant("drop", "Relay Direction"), proving("Login Request"))

    assert outcome.noticed == ()
    assert outcome.unmoved
