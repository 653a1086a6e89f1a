import pytest

from ntmobile.lab import Host, Lab, LabError, ParentDns

pytestmark = pytest.mark.lab


def test_every_machine_resolves_by_the_parent_also_one_behind_a_nat(lab: Lab) -> None:
    net = lab.internet()
    early = lab.host("early", net)
    lab.dns_parent({"example.org": ["www A 192.0.2.1"]}, net)
    late = lab.host("late", lab.nat("home", net))

    assert ask(early, "www.example.org", "A") == ["192.0.2.1"]
    assert ask(late, "www.example.org", "A") == ["192.0.2.1"]


def test_a_delegation_is_followed_to_the_server_it_names(lab: Lab) -> None:
    net = lab.internet()
    child = lab.host("child", net, ipv4="203.0.113.77")
    lab.dns_parent(
        {"example.org": ["ntm NS dc.ntm", "dc.ntm A 203.0.113.77"]},
        net,
    )

    with child.capture("dst port 53") as capture:
        ask(child, "laptop.alice.ntm.example.org", "A")
        asked = "\n".join(capture.packets())

    assert "> 203.0.113.77.53" in asked


def test_records_can_be_added_replaced_and_removed_while_it_runs(lab: Lab) -> None:
    net = lab.internet()
    dns = lab.dns_parent({"example.org": []}, net)
    host = lab.host("host", net)

    dns.add("www.example.org. 5 IN A 192.0.2.1", "www.example.org. 5 IN A 192.0.2.2")
    added = ask(host, "www.example.org", "A")
    dns.replace("www.example.org. 5 IN A 192.0.2.3")
    replaced = ask(host, "www.example.org", "A")
    dns.remove("www.example.org", "A")

    assert sorted(added) == ["192.0.2.1", "192.0.2.2"]
    assert replaced == ["192.0.2.3"]
    assert ask(host, "www.example.org", "A") == []


def test_a_zone_that_is_not_a_zone_is_refused_with_the_servers_words(lab: Lab) -> None:
    net = lab.internet()

    with pytest.raises(LabError, match="unknown class/type"):
        lab.dns_parent({"example.org": ["www NONSENSE 1"]}, net)


@pytest.mark.parametrize("signed", [True, False])
def test_signed_zones_are_so_from_the_root_down_also_what_is_added_later(
    lab: Lab, signed: bool
) -> None:
    net = lab.internet()
    dns = lab.dns_parent({"example.org": ["www A 192.0.2.1"]}, net, signed=signed)
    host = lab.host("host", net)
    dns.add("later.example.org. 5 IN A 192.0.2.2")

    told = [delv(host, dns, f"{name}.example.org", signed) for name in ("www", "later", "none")]

    assert ["fully validated" in each for each in told] == [signed] * 3


def delv(host: Host, dns: ParentDns, name: str, signed: bool) -> str:
    """What BIND's validator says, which believes the root's key if there is one."""
    if not signed:
        return host.run(["delv", "-i", f"@{dns.addresses[0]}", name, "A"]).stdout
    tag, algorithm, digest, text = dns.digest().split()[4:]
    anchors = host.path("/etc/anchors")
    anchors.write_text(f'trust-anchors {{ . static-ds {tag} {algorithm} {digest} "{text}"; }};')
    place = [f"@{dns.addresses[0]}", "-a", "/etc/anchors", "+root=."]
    return host.run(["delv", *place, name, "A"]).stdout


def ask(host: Host, name: str, kind: str) -> list[str]:
    short = ["dig", "+short", "+tries=1", "+time=25", name, kind]
    return host.run(short, check=False).stdout.splitlines()
