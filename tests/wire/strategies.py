"""Any message of any family, for property tests."""

from ipaddress import IPv4Address, IPv6Address

from hypothesis import strategies as st

from ntmobile.wire import direction, notification, registration, tunnel
from ntmobile.wire.datagram import Sender, Signal
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.identity import PublicIdentity, Succession
from ntmobile.wire.round_trip import LONGEST_MS, MOST_ROUND_TRIPS, RoundTrip

label = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
fqdns = st.lists(label, min_size=2, max_size=5).map(".".join)
ipv4 = st.integers(0, 2**32 - 1).map(IPv4Address)
ipv6 = st.integers(0, 2**128 - 1).map(IPv6Address)
ports = st.integers(0, 65535)
endpoints = st.builds(Endpoint, st.one_of(ipv4, ipv6), ports)
endpoint_lists = st.lists(endpoints, max_size=16).map(tuple)
id128 = st.binary(min_size=16, max_size=16)
relay_places = st.builds(
    registration.RelayPlace,
    st.text(min_size=1, max_size=72),
    st.lists(endpoints, max_size=2).map(tuple),
)
relay_endpoints = st.lists(st.lists(endpoints, max_size=2).map(tuple), max_size=8).map(tuple)
round_trips = st.lists(
    st.builds(RoundTrip, endpoints, st.integers(0, LONGEST_MS)), max_size=MOST_ROUND_TRIPS
).map(tuple)
identifiers = st.binary(min_size=8, max_size=8)
secrets = st.binary(min_size=32, max_size=32)
sequences = st.integers(0, 2**63 - 1)
seconds = st.integers(0, 10**8)
indexes = st.integers(0, 2**32 - 1)
signatures = st.binary(min_size=64, max_size=64)
successions = st.builds(Succession, secrets, signatures)
certificates = st.binary(max_size=200)
identities = st.builds(
    PublicIdentity, secrets, secrets, signatures, certificates, st.none() | successions
)
information = st.builds(
    direction.NodeInformation,
    fqdns,
    ipv4,
    ipv6,
    identities,
    endpoint_lists,
    endpoint_lists,
    endpoint_lists,
    st.lists(label, max_size=4).map(tuple),
    sleeps=st.booleans(),
)
roles = st.sampled_from(direction.Role)
purposes = st.sampled_from(direction.Purpose)
epochs = st.integers(0, 3)
noise = st.binary(min_size=48, max_size=96)
states = st.builds(tunnel.ReceiveState, epochs, sequences, st.binary(max_size=64))
state_lists = st.lists(states, max_size=2).map(tuple)

places = st.builds(
    notification.NotificationPlace, fqdns, endpoint_lists, identifiers, secrets, seconds
)

signals: st.SearchStrategy[Signal] = st.one_of(
    st.builds(
        registration.RegistrationRequest,
        fqdns,
        id128,
        sequences,
        sequences,
        endpoint_lists,
        st.sampled_from(registration.KeepAliveChoice),
        st.none() | st.text(max_size=40),
        st.booleans(),
        st.none() | ipv4,
        st.booleans(),
        kntmns=st.none() | identifiers,
        failed=st.lists(fqdns, max_size=4).map(tuple),
        interval_s=seconds,
    ),
    st.builds(
        registration.RegistrationResponse,
        ipv4,
        ipv6,
        endpoints,
        sequences,
        seconds,
        seconds,
        st.lists(identifiers, max_size=8).map(tuple),
        st.sampled_from(registration.KeepAliveChoice),
        st.none() | st.sampled_from(registration.Reason),
        st.none() | places,
        relay_endpoints,
    ),
    st.builds(registration.UdpKeepAlive, st.booleans(), round_trips),
    st.builds(registration.KeepAliveAnswer, endpoints, sequences, relay_endpoints),
    st.builds(registration.Challenge, st.binary(max_size=32)),
    st.builds(registration.NtmAck, st.none() | identities),
    st.builds(registration.Refusal, st.sampled_from(registration.Reason), st.none() | id128),
    st.builds(registration.Superseded, id128),
    st.builds(registration.ReachabilityReport, sequences),
    st.just(registration.ServersRequest()),
    st.builds(registration.ServersResponse, st.lists(relay_places, max_size=8).map(tuple)),
    st.builds(direction.DirectionRequest, fqdns, id128, identities, purposes),
    st.builds(
        direction.NodeInformationRequest, fqdns, information, id128, purposes, relay_endpoints
    ),
    st.builds(direction.NodeInformationResponse, information, round_trips),
    st.builds(direction.RelayDirection, id128, identifiers, secrets, seconds, indexes),
    st.builds(
        direction.RouteDirection,
        id128,
        fqdns,
        roles,
        st.sampled_from(direction.Action),
        information,
        secrets,
        secrets,
        identifiers,
        endpoint_lists,
        endpoint_lists,
        seconds,
        st.sampled_from(direction.Mode),
        purposes,
        st.sampled_from(direction.Cipher),
    ),
    st.builds(direction.ReachabilityProbe, endpoint_lists, sequences),
    st.builds(direction.Withdrawal, fqdns),
    st.builds(notification.NotificationDirection, fqdns, identifiers, secrets, seconds),
    st.builds(notification.NotificationRegistration, fqdns, sequences, seconds),
    st.builds(notification.TcpKeepAlive, seconds),
    st.builds(notification.Notification, identifiers, st.binary(max_size=200)),
    st.builds(tunnel.HolePunching, roles, sequences, indexes),
    st.builds(tunnel.TunnelRequest, id128, roles, sequences, indexes, epochs, noise),
    st.builds(tunnel.TunnelResponse, id128, roles, sequences, indexes, epochs, noise),
)

controls: st.SearchStrategy[tunnel.Control] = st.one_of(
    st.builds(tunnel.TunnelRequest, id128, roles, sequences, indexes, epochs, noise),
    st.builds(tunnel.TunnelResponse, id128, roles, sequences, indexes, epochs, noise),
    st.builds(tunnel.PathUpdate, sequences, state_lists, sequences),
    st.builds(tunnel.PathChallenge, sequences),
    st.builds(tunnel.PathResponse, sequences, endpoints, state_lists),
    st.builds(tunnel.TunnelClose, st.sampled_from(tunnel.CloseReason)),
    st.builds(tunnel.EchoRequest, sequences, st.binary(max_size=64)),
    st.builds(tunnel.EchoReply, sequences, st.binary(max_size=64)),
    st.builds(tunnel.TunnelKeepAlive),
    st.builds(tunnel.Candidates, sequences, st.lists(endpoints, max_size=16).map(tuple)),
)

senders = st.sampled_from(Sender)
