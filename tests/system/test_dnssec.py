"""Domains whose operators pinned nothing and have no public certificates, only signed zones."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from ntmobile.lab import Lab, unavailable
from ntmobile.lab.ntm import NtmNode, Organisation, World
from tests.system.programs import ping

pytestmark = pytest.mark.lab

WRONG = "DS 1 13 2 " + "ab" * 32


@pytest.fixture(scope="module")
def signed() -> Iterator[World]:
    """An internet with a signed DNS, whose root's key the operators believe."""
    if (reason := unavailable()) is not None:
        pytest.skip(f"no lab here: {reason}")
    with Lab() as lab:
        yield World(lab, signed=True)


@pytest.fixture(scope="module")
def laptop(signed: World) -> NtmNode:
    """A node of the domain that finds others."""
    org = signed.organisation("ntm.example.org")
    return signed.node("laptop", "alice", org, signed.internet)


def test_a_domain_is_trusted_by_its_signed_zone_alone(signed: World, laptop: NtmNode) -> None:
    net = signed.organisation("ntm.example.net")
    federate(laptop, net)
    pc = signed.node("pc", "bob", net, signed.internet)

    assert "1 received, 0% packet loss" in ping(laptop, pc, "-4")
    assert known(laptop.organisation, net.domain)["trusted_by"] == "dnssec"
    assert known(net, laptop.organisation.domain)["trusted_by"] == "dnssec"


def test_a_domain_is_refused_when_the_zone_above_names_another_key(
    signed: World, laptop: NtmNode
) -> None:
    other = signed.organisation("wrong.example.net")
    signed.dns.replace(f"{other.domain}. 60 IN {WRONG}")
    federate(laptop, other)

    assert_refused(laptop, other, "no key of wrong.example.net. is the one that the zone above")


def test_a_domain_is_refused_when_nobody_signs_it_and_nobody_knows_its_certificate(
    signed: World, laptop: NtmNode
) -> None:
    other = signed.organisation("plain.example.net")
    signed.dns.remove(other.domain, "DS")
    federate(laptop, other)

    assert_refused(laptop, other, "example.net. has no DS record of plain.example.net.")


def federate(laptop: NtmNode, other: Organisation) -> None:
    """List another domain on both sides without any key: from now on the servers judge it."""
    here = laptop.organisation
    other.admin("federation", "add", here.domain)
    here.admin("federation", "add", other.domain)


def assert_refused(laptop: NtmNode, other: Organisation, why: str) -> None:
    """The node's user hears that it is the key, and the operator what is wrong with it."""
    refused = laptop.ntm("ping", f"pc.bob.{other.domain}", "-c", "1", check=False)

    assert refused.returncode == 1
    assert "the peer's domain could not prove its key" in refused.stderr
    assert why in laptop.organisation.log("as,dc,ns,rs").read_text()
    assert known(laptop.organisation, other.domain)["key"] is None


def known(organisation: Organisation, domain: str) -> dict[str, Any]:
    """What its operator sees of another domain."""
    listed = json.loads(organisation.admin("federation", "list", "--json"))
    rows: list[dict[str, Any]] = listed["domains"]
    return next(each for each in rows if each["domain"] == domain)
