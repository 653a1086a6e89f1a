//! UDP, echoes, and packets that nobody wants.

mod network;

use std::net::SocketAddr;

use network::{Network, V4, V6, Weather, events, read};
use ntmobile_capsule::icmp;
use ntmobile_stack::{Datagram, Event, Failure};
use proptest::prelude::*;

#[test]
fn a_datagram_arrives_with_its_source() {
    for hosts in [V4, V6] {
        let mut network = Network::new(Weather::default());
        let (near, near_port) = network.stacks[0].bind(0).expect("a port");
        let (far, far_port) = network.stacks[1].bind(53).expect("a port");
        let there = SocketAddr::new(hosts[1], far_port);
        network.stacks[0]
            .send_to(near, there, b"query", network.now)
            .expect("it fits");

        network.until(|network| events(&network.stacks[1], far) & Event::READABLE != 0);

        let expected = Datagram {
            source: SocketAddr::new(hosts[0], near_port),
            payload: b"query".to_vec(),
        };
        assert_eq!(network.stacks[1].receive_from(far), Ok(Some(expected)));
        assert_eq!(network.stacks[1].receive_from(far), Ok(None));
    }
}

#[test]
fn a_port_without_a_reader_is_told_to_the_sender() {
    for hosts in [V4, V6] {
        let mut network = Network::new(Weather::default());
        let (near, _) = network.stacks[0].bind(0).expect("a port");
        let there = SocketAddr::new(hosts[1], 53);
        network.stacks[0]
            .send_to(near, there, b"query", network.now)
            .expect("it fits");

        network.until(|network| events(&network.stacks[0], near) & Event::READABLE != 0);

        assert_eq!(network.stacks[0].receive_from(near), Err(Failure::Refused));
        assert_eq!(network.stacks[0].receive_from(near), Ok(None));
    }
}

proptest! {
    #[test]
    fn a_datagram_larger_than_the_path_arrives_whole(
        length in 1200..65_488_usize,
        late in 0..100_u64,
        seed in any::<u64>(),
    ) {
        for hosts in [V4, V6] {
            let mut network = Network::new(Weather { seed, late, ..Weather::default() });
            let (near, _) = network.stacks[0].bind(0).expect("a port");
            let (far, port) = network.stacks[1].bind(0).expect("a port");
            let said: Vec<u8> = (0..length).map(|at| (at / 5) as u8).collect();
            let there = SocketAddr::new(hosts[1], port);
            network.stacks[0]
                .send_to(near, there, &said, network.now)
                .expect("it is no longer than a packet");

            network.until(|network| events(&network.stacks[1], far) & Event::READABLE != 0);

            let got = network.stacks[1].receive_from(far).expect("no error");
            prop_assert!(got.expect("it came").payload == said);
        }
    }
}

#[test]
fn a_datagram_of_which_a_part_is_lost_does_not_arrive() {
    let network = Network::new(Weather::default());
    let (near, _) = network.stacks[0].bind(0).expect("a port");
    let (far, port) = network.stacks[1].bind(0).expect("a port");
    let there = SocketAddr::new(V4[1], port);
    network.stacks[0]
        .send_to(near, there, &[7; 4000], network.now)
        .expect("it is no longer than a packet");
    let mut buffer = vec![0; 1 << 16];
    network.stacks[0].take(&mut buffer).expect("the first part");

    while let Some((_, place)) = network.stacks[0].take(&mut buffer) {
        network.stacks[1].handle(buffer[place].to_vec(), network.now);
    }

    assert_eq!(network.stacks[1].receive_from(far), Ok(None));
}

#[test]
fn what_no_packet_holds_is_refused() {
    let network = Network::new(Weather::default());
    let (near, _) = network.stacks[0].bind(0).expect("a port");
    let send = |host, size: usize| {
        let there = SocketAddr::new(host, 53);
        network.stacks[0].send_to(near, there, &vec![0; size], network.now)
    };

    assert_eq!(send(V4[1], 65_507), Ok(()));
    assert_eq!(send(V4[1], 65_508), Err(Failure::TooLong));
    assert_eq!(send(V6[1], 65_487), Ok(()));
    assert_eq!(send(V6[1], 65_488), Err(Failure::TooLong));
}

#[test]
fn a_node_hears_what_it_says_to_itself_and_nothing_leaves() {
    for hosts in [V4, V6] {
        let network = Network::new(Weather::default());
        let stack = &network.stacks[0];
        let (near, near_port) = stack.bind(0).expect("a port");
        let (far, port) = stack.bind(0).expect("a port");
        let there = SocketAddr::new(hosts[0], port);
        stack
            .send_to(near, there, &[7; 3000], network.now)
            .expect("it fits");

        let got = stack
            .receive_from(far)
            .expect("no error")
            .expect("it is there");
        assert_eq!(got.source, SocketAddr::new(hosts[0], near_port));
        assert_eq!(got.payload, [7; 3000]);
        assert!(stack.take(&mut vec![0; 1 << 16]).is_none());
    }
}

#[test]
fn a_port_of_its_own_that_nobody_has_is_refused() {
    let network = Network::new(Weather::default());
    let stack = &network.stacks[0];
    let (near, _) = stack.bind(0).expect("a port");

    let there = SocketAddr::new(V4[0], 53);
    stack
        .send_to(near, there, b"anybody?", network.now)
        .expect("it fits");

    assert_eq!(stack.receive_from(near), Err(Failure::Refused));
}

#[test]
fn a_port_has_one_owner_until_it_is_given_back() {
    let network = Network::new(Weather::default());
    let (first, _) = network.stacks[0].bind(53).expect("a port");

    assert_eq!(network.stacks[0].bind(53), Err(Failure::InUse));
    network.stacks[0].unbind(first);
    assert!(network.stacks[0].bind(53).is_ok());
}

#[test]
fn a_flood_that_nobody_reads_is_bounded() {
    let network = Network::new(Weather::default());
    let (near, _) = network.stacks[0].bind(0).expect("a port");
    let (far, port) = network.stacks[1].bind(0).expect("a port");
    let mut buffer = vec![0; 1 << 16];
    for _ in 0..3000 {
        let there = SocketAddr::new(V4[1], port);
        network.stacks[0]
            .send_to(near, there, &[0; 1000], network.now)
            .expect("it fits");
        let (_, place) = network.stacks[0].take(&mut buffer).expect("it leaves");
        network.stacks[1].handle(buffer[place].to_vec(), network.now);
    }

    let mut kept = 0;
    while let Ok(Some(_)) = network.stacks[1].receive_from(far) {
        kept += 1;
    }
    assert_eq!(kept, (1 << 20) / 1256);
}

#[test]
fn a_refusal_of_the_node_ends_a_connection_that_begins() {
    let network = Network::new(Weather::default());
    let there = SocketAddr::new(V4[1], 80);
    let (near, _) = network.stacks[0]
        .connect(there, network.now)
        .expect("a port");
    let mut buffer = vec![0; 1 << 16];
    let (_, place) = network.stacks[0].take(&mut buffer).expect("SYN leaves");
    let error = icmp::build(&buffer[place], icmp::Error::Prohibited).expect("it is no error");

    network.stacks[0].handle(error, network.now);

    assert_eq!(network.stacks[0].failure(near), Some(Failure::Prohibited));
}

#[test]
fn a_connection_that_stands_outlives_an_unreachable_peer() {
    let mut network = Network::new(Weather::default());
    let (near, far, _) = network.connection(V4);
    network.stacks[0]
        .send(near, b"hello", network.now)
        .expect("it stands");
    let mut buffer = vec![0; 1 << 16];
    let (_, place) = network.stacks[0].take(&mut buffer).expect("it leaves");
    let error = icmp::build(&buffer[place], icmp::Error::Prohibited).expect("it is no error");

    network.stacks[0].handle(error, network.now);

    let mut got = Vec::new();
    network.until(|network| {
        read(&network.stacks[1], far, network.now, &mut got);
        got == b"hello"
    });
}

#[test]
fn an_echo_request_is_answered() {
    let network = Network::new(Weather::default());
    // Echo request from 100.64.0.1 to 100.64.0.2, identifier 7, sequence 1.
    let mut packet = vec![
        0x45, 0, 0, 32, 0, 0, 0, 0, 64, 1, 0, 0, 100, 64, 0, 1, 100, 64, 0, 2,
    ];
    packet.extend([8, 0, 0, 0, 0, 7, 0, 1, b'p', b'i', b'n', b'g']);

    network.stacks[1].handle(packet, network.now);

    let mut buffer = vec![0; 1 << 16];
    let (_, place) = network.stacks[1]
        .take(&mut buffer)
        .expect("the answer leaves");
    let answer = &buffer[place];
    assert_eq!(answer[12..20], [100, 64, 0, 2, 100, 64, 0, 1]);
    assert_eq!(answer[20], 0);
    assert_eq!(&answer[28..], b"ping");
}

proptest! {
    #[test]
    fn no_packet_does_harm(packet in proptest::collection::vec(any::<u8>(), 0..200)) {
        let network = Network::new(Weather::default());
        network.stacks[1].listen(80, 4).expect("a port");
        network.stacks[1].bind(53).expect("a port");

        network.stacks[1].handle(packet, network.now);
    }

    #[test]
    fn no_segment_does_harm(
        flags in any::<u8>(), port in prop_oneof![Just(80_u16), any::<u16>()],
        numbers in any::<[u8; 8]>(), options in proptest::collection::vec(any::<u8>(), 0..40),
        payload in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let network = Network::new(Weather::default());
        network.stacks[1].listen(80, 4).expect("a port");
        let padded = options.len().div_ceil(4) * 4;
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0, 100, 64, 0, 1, 100, 64, 0, 2];
        packet.extend([0x80, 0]);
        packet.extend(port.to_be_bytes());
        packet.extend(numbers);
        packet.extend([(((20 + padded) / 4) << 4) as u8, flags, 0xff, 0xff, 0, 0, 0, 0]);
        packet.extend(&options);
        packet.resize(40 + padded, 0);
        packet.extend(payload);
        let total = packet.len() as u16;
        packet[2..4].copy_from_slice(&total.to_be_bytes());

        network.stacks[1].handle(packet, network.now);
    }
}
