import pytest

from ntmobile.config import ConfigError
from ntmobile.proto.coordinator.policy import Federation, Policy, Subject
from ntmobile.servers.policy import FRESH, PolicyFile, parse_policy
from ntmobile.wire.registration import Reason

DOMAIN = "ntm.example.org"
TEXT = """
[groups]
staff = ["alice", "pc.bob.ntm.example.org"]

[[rule]]
action = "allow"
from = ["@staff", "*.partner.example"]
to = ["*.bob.ntm.example.org"]

[[rule]]
action = "deny"
from = ["*"]
to = ["*.bob.ntm.example.org"]
"""


def test_the_fresh_policy_lets_the_own_domain_talk_and_no_other() -> None:
    policy = policy_of(FRESH.format(domain=DOMAIN))

    assert policy.refuses(own("laptop.alice"), own("pc.bob")) is None
    foreign = Subject("pc.eve.ntm.example.net")
    assert policy.refuses(foreign, own("pc.bob")) is Reason.FOREIGN_DOMAIN


def test_the_first_rule_that_fits_decides() -> None:
    policy = policy_of(TEXT)

    assert policy.refuses(own("laptop.alice", "staff"), own("pc.bob")) is None
    assert policy.refuses(own("laptop.carol"), own("pc.bob")) is Reason.NOT_ALLOWED
    assert policy.refuses(own("laptop.carol"), own("pc.alice")) is None


def test_a_rule_can_name_nodes_of_a_listed_domain() -> None:
    policy = policy_of(TEXT, listed="partner.example")

    assert policy.refuses(Subject("a.b.partner.example"), own("pc.bob")) is None


def test_a_node_is_in_the_groups_that_name_it_or_its_user() -> None:
    file = parse_policy(TEXT)

    assert file.groups_of("alice", "any.alice." + DOMAIN) == ("staff",)
    assert file.groups_of("bob", "pc.bob." + DOMAIN) == ("staff",)
    assert file.groups_of("bob", "tv.bob." + DOMAIN) == ()


def test_an_empty_policy_is_a_policy() -> None:
    assert parse_policy("") == PolicyFile()


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ('[[rule]]\naction = "permit"\nfrom = ["*"]\nto = ["*"]', 2, "rule[1].action"),
        ('[[rule]]\naction = "deny"\nfrom = ["*"]', 1, "rule[1].to"),
        ('[[rule]]\naction = "deny"\nfrom = ["203.0.113.0/24"]\nto = ["*"]', 3, "rule[1].from"),
        ('[[rule]]\naction = "deny"\nfrom = "*"\nto = ["*"]', 3, "rule[1].from"),
        ('[groups]\nstaff = ["alice"]\nBad_Name = []', 1, "groups"),
        ('[[rule]]\nports = ["tcp/22"]', 2, "rule[1].ports"),
        ('[[rules]]\naction = "deny"', 1, "rules"),
    ],
)
def test_a_wrong_policy_is_refused_with_its_line(text: str, line: int, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_policy(text)

    assert (caught.value.line, caught.value.key) == (line, key)


def own(name: str, *groups: str) -> Subject:
    return Subject(f"{name}.{DOMAIN}", groups)


def policy_of(text: str, listed: str = "") -> Policy:
    return parse_policy(text).policy(DOMAIN, Federation.LISTED, listed=frozenset({listed} - {""}))
