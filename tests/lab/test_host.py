import socket
from pathlib import Path

import pytest

from ntmobile.lab import Behaviour, Host, IPv6Service, Lab, LabError
from ntmobile.lab.prober import Prober, udp

pytestmark = pytest.mark.lab
QUIET_S = 1.0
"""Nothing that gets through takes so long."""


def test_a_move_keeps_processes_and_sockets_and_changes_the_address(lab: Lab) -> None:
    net = lab.internet()
    prober = Prober(lab.host("first", net), lab.host("second", net))
    laptop = lab.host("laptop", lab.nat("home", net))
    process = laptop.popen(["sleep", "60"])

    with prober, udp(laptop, 5000) as inside:
        before = prober.mapped(inside)
        laptop.move(net)
        after = prober.mapped(inside)

    assert process.poll() is None
    assert after == (str(laptop.ipv4), 5000)
    assert after != before
    assert list(laptop.uplinks) == ["eth0"]


def test_with_the_old_uplink_kept_the_new_one_is_preferred(lab: Lab) -> None:
    net = lab.internet()
    prober = Prober(lab.host("first", net), lab.host("second", net))
    home = lab.nat("home", net)
    laptop = lab.host("laptop", home)

    with prober, udp(laptop) as inside:
        laptop.move(net, keep_old=True)
        by_new = prober.mapped(inside).host
        laptop.drop_uplink("eth1")
        by_old = prober.mapped(inside).host

    assert by_new != by_old
    assert by_old == str(home.outside)


def test_an_added_uplink_is_not_preferred_and_leaves_again(lab: Lab) -> None:
    net = lab.internet()
    home = lab.nat("home", net)
    laptop = lab.host("laptop", home)

    added = laptop.add_uplink(net)
    preferred = laptop.uplink.network
    laptop.drop_uplink(added)

    assert preferred is home
    assert list(laptop.uplinks) == ["eth0"]


def test_a_renumbered_machine_is_reached_at_the_new_address_only(lab: Lab) -> None:
    net = lab.internet()
    server, laptop = lab.host("server", net), lab.host("laptop", net)
    before = str(laptop.ipv4)

    laptop.renumber()

    assert str(laptop.ipv4) != before
    assert reaches(server, str(laptop.ipv4))
    assert not reaches(server, before, QUIET_S)


def test_a_pulled_plug_cuts_and_a_replaced_one_heals(lab: Lab) -> None:
    net = lab.internet()
    server, laptop = lab.host("server", net), lab.host("laptop", net)

    laptop.set_carrier(False)
    cut = reaches(laptop, str(server.ipv4), QUIET_S)
    laptop.set_carrier(True)

    assert not cut
    # The question for the gateway that went unanswered is repeated after a second.
    assert reaches(laptop, str(server.ipv4))
    assert reaches(laptop, str(server.ipv6))


def test_a_released_address_can_be_given_again_and_a_used_one_cannot(lab: Lab) -> None:
    net = lab.internet()
    first = lab.host("first", net, ipv4="203.0.113.99")

    with pytest.raises(LabError, match="in use"):
        lab.host("second", net, ipv4="203.0.113.99")
    first.drop_uplink()
    third = lab.host("third", net, ipv4="203.0.113.99")

    assert str(third.ipv4) == "203.0.113.99"


@pytest.mark.parametrize("service", [IPv6Service.ROUTED, IPv6Service.FIREWALLED])
def test_ipv6_behind_a_nat_is_global_and_firewalled_only_if_asked(
    lab: Lab, service: IPv6Service
) -> None:
    net = lab.internet()
    server = lab.host("server", net)
    home = lab.nat("home", net, Behaviour(ipv6=service))
    inner = lab.nat("inner", home, Behaviour(ipv6=service))
    laptop, deep = lab.host("laptop", home), lab.host("deep", inner)

    outward = [reaches(machine, str(server.ipv6)) for machine in (laptop, deep)]
    patience_s = 20.0 if service is IPv6Service.ROUTED else QUIET_S
    inward = [reaches(server, str(machine.ipv6), patience_s) for machine in (laptop, deep)]

    assert outward == [True, True]
    assert inward == [service is IPv6Service.ROUTED] * 2


def test_a_machine_can_have_one_family_only(lab: Lab) -> None:
    net = lab.internet()
    old = lab.host("old", net, ipv6=None)
    new = lab.host("new", net, ipv4=None)

    with pytest.raises(LabError, match="no IPv6"):
        _ = old.ipv6
    with pytest.raises(LabError, match="no IPv4"):
        _ = new.ipv4
    assert not reaches(old, str(new.ipv6), QUIET_S)


def test_what_a_machine_writes_to_etc_stays_in_it(lab: Lab) -> None:
    net = lab.internet()
    one, two = lab.host("one", net), lab.host("two", net)
    outside = Path("/etc/resolv.conf").read_text()

    one.resolv_conf("192.0.2.53", search="ntm.example.org")
    one.run(["sh", "-c", "echo '# end' > /etc/r && cat /etc/r >> /etc/resolv.conf"])
    one.run(["sh", "-c", "cp /etc/resolv.conf /etc/n && mv /etc/n /etc/resolv.conf"])

    seen = one.run(["cat", "/etc/resolv.conf"]).stdout
    assert seen == "search ntm.example.org\nnameserver 192.0.2.53\n# end\n"
    assert two.run(["cat", "/etc/resolv.conf"]).stdout == ""
    assert Path("/etc/resolv.conf").read_text() == outside
    assert not Path("/etc/r").exists()


def test_a_small_mtu_in_the_middle_is_reported_to_the_sender(lab: Lab) -> None:
    net = lab.internet()
    server = lab.host("server", net)
    laptop = lab.host("laptop", lab.nat("home", net, mtu=1400))

    big = ["ping", "-c", "1", "-W", "25", "-M", "do", "-s", "1372", str(server.ipv4)]
    laptop.run(big)
    big[-2] = "1373"
    refused = laptop.run(big, check=False)

    assert refused.returncode != 0
    assert "mtu = 1400" in refused.stdout


def test_a_failing_command_is_raised_with_its_own_words(lab: Lab) -> None:
    host = lab.host("host")

    with pytest.raises(LabError, match=r"exit code 3.*\n.*broken"):
        host.run(["sh", "-c", "echo broken >&2; exit 3"])


def test_a_command_runs_in_the_callers_directory_and_without_a_helper(
    lab: Lab, tmp_path: Path
) -> None:
    host = lab.host("host")

    where = host.run(["pwd"], cwd=str(tmp_path)).stdout.strip()
    child = host.popen(["sleep", "60"])
    child.kill()

    assert where == str(tmp_path)
    assert child.wait() == -9


def test_a_capture_has_every_packet(lab: Lab) -> None:
    net = lab.internet()
    server, laptop = lab.host("server", net), lab.host("laptop", net)

    with server.capture("udp port 5000") as capture:
        with udp(server, 5000) as inside, udp(laptop) as sender:
            for _ in range(100):
                sender.sendto(b"x", (str(server.ipv4), 5000))
                inside.recv(99)
        packets = capture.packets()

    assert len(packets) == 100


def test_offload_can_be_taken_from_an_interface(lab: Lab) -> None:
    laptop = lab.host("laptop", lab.internet())

    laptop.offload(False)

    features = laptop.run(["ethtool", "-k", "eth0"]).stdout
    assert "tx-udp-segmentation: off" in features
    assert "tcp-segmentation-offload: off" in features


def reaches(machine: Host, address: str, patience_s: float = 20.0) -> bool:
    """Say whether a datagram of the machine gets an answer, of whatever kind."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with machine.socket(family) as sender:
        sender.settimeout(patience_s)
        try:
            # Nobody listens there: who is reached says so, by ICMP.
            sender.connect((address, 9))
            sender.send(b"?")
            sender.recv(1)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    raise AssertionError("something listens on the discard port")
