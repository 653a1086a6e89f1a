//! What a peer may bear: its own address, and networks that it leads to.

use proptest::prelude::*;

use super::*;

const ADDRESSES: Addresses = Addresses {
    own_v4: [100, 64, 0, 1],
    own_v6: [0xfd; 16],
    peer_v4: [100, 64, 0, 2],
    peer_v6: [0xfc; 16],
};
const ANOTHER: [u8; 4] = [100, 64, 0, 3];

fn network(text: &str, length: u8) -> Network {
    Network::new(text.parse().expect("as written"), length).expect("as written")
}

fn packet(source: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
    let mut bytes = vec![0; 28];
    bytes[0] = 0x45;
    bytes[3] = 28;
    bytes[9] = 17;
    bytes[12..16].copy_from_slice(&source);
    bytes[16..20].copy_from_slice(&destination);
    bytes
}

fn judge(networks: &Networks, packet: &[u8]) -> Result<Stamps, Dropped> {
    let inner = Inner::parse_any(packet).expect("as written");
    let is_peer = |host: &IpAddr| *host == IpAddr::from(ANOTHER);
    networks.judge(packet, &inner, &ADDRESSES, is_peer)
}

fn through(gateway: [u8; 4]) -> Networks {
    let beyond = vec![
        (network("192.168.50.0", 24), gateway.into()),
        (network("192.168.50.128", 25), ANOTHER.into()),
    ];
    Networks::new(beyond, vec![], None)
}

fn leading(guests: Network) -> Networks {
    Networks::new(vec![], vec![network("192.168.50.0", 24)], Some(guests))
}

proptest! {
    /// Whatever a peer sends, its source here is its own address, or one of a
    /// network that it leads to; never another peer's, never one nearer to another.
    #[test]
    fn a_source_is_the_peers_own_or_of_its_networks(
        source: [u8; 4],
        inside in prop::option::of(any::<u8>()),
        destination: [u8; 4],
        leads: bool,
    ) {
        let source = inside.map_or(source, |last| [192, 168, 50, last]);
        let gateway = if leads { ADDRESSES.peer_v4 } else { ANOTHER };
        if let Ok(stamps) = judge(&through(gateway), &packet(source, destination)) {
            let stamped = stamps.packet.peer_v4;
            let beyond = leads && stamped[..3] == [192, 168, 50] && stamped[3] < 128;
            prop_assert!(stamped == ADDRESSES.peer_v4 || (beyond && stamped == source));
            prop_assert_eq!(stamps.packet.own_v4, ADDRESSES.own_v4);
        }
    }

    /// Whatever a peer sends, it arrives at this node or in a network behind it.
    #[test]
    fn a_destination_is_this_node_or_behind_it(
        destination: [u8; 4],
        inside in prop::option::of(any::<u8>()),
        guest: bool,
    ) {
        let destination = inside.map_or(destination, |last| [192, 168, 50, last]);
        let guests = network(if guest { "fc00::" } else { "fd00::" }, 8);
        let judged = judge(&leading(guests), &packet(ADDRESSES.peer_v4, destination));
        let behind = destination[..3] == [192, 168, 50];
        match judged {
            Ok(stamps) if behind && guest => prop_assert_eq!(stamps.packet.own_v4, destination),
            Ok(stamps) => {
                prop_assert_eq!(stamps.packet.own_v4, ADDRESSES.own_v4);
                prop_assert!(is_virtual(destination.into()));
            }
            Err(reason) => {
                prop_assert_eq!(reason, Dropped::Unpermitted);
                prop_assert!(!is_virtual(destination.into()));
                prop_assert!(!behind || !guest);
            }
        }
    }

    /// A network holds just the addresses that begin as it does.
    #[test]
    fn a_network_is_a_prefix(address: u32, host: u32, length in 1u8..=32) {
        let net = Network::new(Ipv4Addr::from_bits(address).into(), length).expect("as written");
        let same = (address ^ host).leading_zeros() >= u32::from(length);
        prop_assert_eq!(net.contains(Ipv4Addr::from_bits(host).into()), same);
    }
}

#[test]
fn a_foreign_source_of_a_peer_that_leads_elsewhere_is_refused() {
    let foreign = packet([192, 168, 77, 9], ADDRESSES.own_v4);

    let refused = judge(&through(ADDRESSES.peer_v4), &foreign);

    assert_eq!(refused, Err(Dropped::Unpermitted));
    assert!(judge(&Networks::default(), &foreign).is_ok());
}

#[test]
fn the_internet_has_no_private_and_no_virtual_addresses() {
    let everything = [network("0.0.0.0", 0), network("::", 0)];
    for (host, inside) in [
        ("198.51.100.7", true),
        ("192.168.1.1", false),
        ("100.64.0.3", false),
        ("198.18.0.1", false),
        ("10.1.2.3", false),
        ("127.0.0.1", false),
        ("2001:db8::1", true),
        ("fd00::1", false),
        ("fe80::1", false),
    ] {
        let host = host.parse().expect("as written");
        assert_eq!(
            everything.iter().any(|net| net.contains(host)),
            inside,
            "{host}"
        );
    }
}

#[test]
fn a_router_on_the_way_quotes_what_was_sent_beyond() {
    let quoted = packet(ADDRESSES.own_v4, [192, 168, 50, 9]);
    let mut error = packet([192, 168, 50, 1], ADDRESSES.own_v4);
    error[9] = 1;
    error[20] = 3;
    error.extend_from_slice(&quoted);

    let stamps = judge(&through(ADDRESSES.peer_v4), &error).expect("as written");

    assert_eq!(stamps.packet.peer_v4, [192, 168, 50, 1]);
    assert_eq!(stamps.quoted.peer_v4, [192, 168, 50, 9]);
}
