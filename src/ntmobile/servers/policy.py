"""`policy.toml`: groups of nodes, and who may talk to whom.

::

    [groups]
    staff = ["alice", "pc.bob.ntm.example.org"]

    [[rule]]
    action = "allow"
    from = ["@staff", "*.partner.example"]
    to = ["*.bob.ntm.example.org"]

Rules are tried in order and the first that fits decides; where none fits, nodes of the domain and
of the domains that federation admits may talk. Names only, never addresses.
Ours: docs/protocol.md section 2.
"""
# ruff: noqa: RUF009 -- the calls in class bodies make fields

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import product

from ntmobile.config import Kind, is_label, list_of, one_of, parse, required, setting, tables
from ntmobile.proto.coordinator.policy import Federation, Policy, Rule

FILE = "policy.toml"
FRESH = """# Who may talk to whom. As it stands: all nodes of this domain, and those of domains that
# `ntm admin federation add` listed. The first rule that fits decides. Try it out with
# `ntm admin policy test FROM TO`.
#
# [groups]
# staff = ["alice", "pc.bob.{domain}"]
#
# [[rule]]
# action = "allow"
# from = ["@staff"]
# to = ["*.bob.{domain}"]
#
# [[rule]]
# action = "deny"
# from = ["*"]
# to = ["*.bob.{domain}"]
"""


class Action(StrEnum):
    """What a rule does."""

    ALLOW = "allow"
    DENY = "deny"


def _pattern(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError
    name = value.lower()
    if name.startswith("@"):
        if not is_label(name[1:]):
            raise ValueError
    elif not name or len(name) > 253 or not all(map(_is_pattern_label, name.split("."))):
        raise ValueError
    return name


def _is_pattern_label(label: str) -> bool:
    return label == "*" or is_label(label)


def _groups(value: object) -> tuple[tuple[str, tuple[str, ...]], ...]:
    if not isinstance(value, Mapping) or not all(map(is_label, value)):
        raise ValueError
    return tuple((name, MEMBERS.parse(members)) for name, members in value.items())


PATTERN = Kind('names like "pc.bob.ntm.example.org", "*.example.net", "*", or "@group"', _pattern)
MEMBER = Kind('users like "alice", or nodes like "pc.bob.ntm.example.org"', _pattern)
MEMBERS = list_of(MEMBER)
GROUPS = Kind(f"name = [{MEMBER.allowed}]", _groups, dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSettings:
    """One `[[rule]]`."""

    action: Action = required(one_of(Action))
    from_: tuple[str, ...] = required(list_of(PATTERN))
    to: tuple[str, ...] = required(list_of(PATTERN))


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFile:
    """All of `policy.toml`."""

    groups: tuple[tuple[str, tuple[str, ...]], ...] = setting(GROUPS, ())
    rule: tuple[RuleSettings, ...] = tables(RuleSettings)

    def groups_of(self, user: str, fqdn: str) -> tuple[str, ...]:
        """Return the groups that a node of a user is in."""
        return tuple(name for name, members in self.groups if {user, fqdn} & set(members))

    def rules(self) -> tuple[Rule, ...]:
        """Return the rules as the DC goes by them."""
        return tuple(
            Rule(source, destination, rule.action is Action.ALLOW)
            for rule in self.rule
            for source, destination in product(rule.from_, rule.to)
        )

    def policy(
        self,
        domain: str,
        mode: Federation,
        *,
        listed: frozenset[str] = frozenset(),
        revoked: frozenset[str] = frozenset(),
    ) -> Policy:
        """Return all that the DC goes by; listed and revoked come from the store."""
        return Policy(domain, mode, listed, self.rules(), revoked)


def parse_policy(toml: str, file: str = FILE) -> PolicyFile:
    """Parse `policy.toml`; raises ConfigError."""
    return parse(toml, file, PolicyFile)
