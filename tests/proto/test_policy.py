import pytest

from ntmobile.proto.coordinator.policy import Federation, Policy, Rule, Subject
from ntmobile.wire.registration import Reason

OURS = Subject("laptop.alice.ntm.example.org", ("staff",))
GUEST = Subject("phone.eve.ntm.example.org")
SECRET = Subject("pc.bob.ntm.example.org")
STAFF_ONLY = (Rule("@staff", SECRET.fqdn, True), Rule("*", SECRET.fqdn, False))


def policy(*rules: Rule, federation: Federation = Federation.OPEN) -> Policy:
    listed = frozenset({"ntm.example.net"})
    return Policy("ntm.example.org", federation, listed=listed, rules=rules)


def test_a_group_admits_its_members_and_nobody_else() -> None:
    assert policy(*STAFF_ONLY).refuses(OURS, SECRET) is None
    assert policy(*STAFF_ONLY).refuses(GUEST, SECRET) is Reason.NOT_ALLOWED


@pytest.mark.parametrize(
    "fqdn",
    ["laptop.alice.ntm.example.net", "laptop.alice.evilntm.example.org", "ntm.example.org"],
)
def test_a_foreign_node_is_in_no_group_whatever_its_dc_says(fqdn: str) -> None:
    claims = Subject(fqdn, ("staff",))

    assert policy(*STAFF_ONLY).refuses(claims, SECRET) is Reason.NOT_ALLOWED


def test_a_foreign_node_is_admitted_by_its_name() -> None:
    by_name = Rule("*.alice.ntm.example.net", SECRET.fqdn, True)
    foreign = Subject("laptop.alice.ntm.example.net")

    assert policy(by_name, *STAFF_ONLY).refuses(foreign, SECRET) is None


def test_a_group_as_destination_has_no_foreign_node_either() -> None:
    rules = (Rule("*", "@staff", False),)
    claims = Subject("laptop.alice.ntm.example.net", ("staff",))

    assert policy(*rules).refuses(GUEST, OURS) is Reason.NOT_ALLOWED
    assert policy(*rules).refuses(GUEST, claims) is None


@pytest.mark.parametrize(
    ("federation", "domain", "refused"),
    [
        (Federation.OPEN, "ntm.example.com", None),
        (Federation.LISTED, "ntm.example.com", Reason.FOREIGN_DOMAIN),
        (Federation.LISTED, "ntm.example.net", None),
        (Federation.CLOSED, "ntm.example.net", Reason.FOREIGN_DOMAIN),
    ],
)
def test_a_foreign_domain_is_admitted_as_federation_says(
    federation: Federation, domain: str, refused: Reason | None
) -> None:
    foreign = Subject(f"laptop.alice.{domain}")

    assert policy(federation=federation).refuses(OURS, foreign) is refused
    assert policy(federation=federation).refuses(foreign, OURS) is refused
