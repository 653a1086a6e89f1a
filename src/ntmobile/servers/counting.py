"""Which numbers of which role `/metrics` shows."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ntmobile.servers.metrics import Counted, Measured, Metrics

if TYPE_CHECKING:
    from ntmobile.servers.serve import Servers


def count_all(servers: "Servers", metrics: Metrics) -> None:
    """Add the numbers of every role of a process."""
    front = servers.front
    metrics.add(Counted("ntm_https", "answers by HTTP status", "status", lambda: front.counters))
    doors = servers.doors
    metrics.add(Measured("ntm_websockets", "WebSockets of nodes without UDP", doors.__len__))
    metrics.add(Counted("ntm_websocket", "WebSockets asked for", "what", lambda: doors.counters))
    _count_coordinator(servers, metrics)
    _count_relay(servers, metrics)
    _count_notifier(servers, metrics)
    if (account := servers.account) is not None:
        refused = account.logins.refused
        read = lambda: {str(reason): count for reason, count in refused.items()}  # noqa: E731
        metrics.add(Counted("ntm_logins_refused", "logins refused", "reason", read))
    if (dns := servers.dns) is not None:
        answers = dns.responder.counters
        metrics.add(Counted("ntm_dns", "DNS questions by answer", "answer", lambda: answers))
        metrics.add(Counted("ntm_dns_limit", "DNS rate limit", "verdict", lambda: dns.counters))


def _count_coordinator(servers: "Servers", metrics: Metrics) -> None:
    coordinator = servers.coordinator
    if coordinator is None:
        return
    metrics.add(Measured("ntm_registered_nodes", "nodes that answer", coordinator.registered))
    rejected = lambda: coordinator.machine.rejected  # noqa: E731
    metrics.add(Counted("ntm_dc_rejected", "datagrams dropped by DC", "reason", rejected))
    metrics.add(Counted("ntm_dc_port", "datagrams at DC", "what", coordinator.port.counters))
    stun = coordinator.signalling.stun.counters
    metrics.add(Counted("ntm_dc_stun", "STUN at DC", "what", lambda: stun))
    if (push := servers.push) is not None:
        sent = push.wake_ups.counters
        metrics.add(Counted("ntm_push", "wake-ups by push service", "outcome", lambda: sent))
    kept = servers.keeper.counters
    metrics.add(Counted("ntm_store", "writes to the store", "what", lambda: kept))
    driver = coordinator.driver.counters
    metrics.add(Measured("ntm_dc_bugs", "errors in DC's machine", lambda: driver["bugs"]))


def _count_relay(servers: "Servers", metrics: Metrics) -> None:
    relay = servers.relay
    if relay is None:
        return
    rejected: Mapping[str, int] = relay.machine.rejected
    metrics.add(Counted("ntm_rs_rejected", "datagrams dropped by RS", "reason", lambda: rejected))
    metrics.add(Counted("ntm_rs_port", "datagrams at RS", "what", relay.port.counters))
    stun = relay.signalling.stun.counters
    metrics.add(Counted("ntm_rs_stun", "STUN at RS", "what", lambda: stun))


def _count_notifier(servers: "Servers", metrics: Metrics) -> None:
    notifier = servers.notifier
    if notifier is None:
        return
    metrics.add(Measured("ntm_ns_held", "connections of nodes", lambda: notifier.machine.held))
    most = lambda: notifier.machine.most  # noqa: E731
    metrics.add(Measured("ntm_ns_most", "connections that descriptors allow", most))
    rejected: Mapping[str, int] = notifier.machine.rejected
    metrics.add(Counted("ntm_ns_rejected", "what NS dropped", "reason", lambda: rejected))
    streams = notifier.acceptor.counters
    metrics.add(Counted("ntm_ns_streams", "connections at NS", "what", lambda: streams))
