//! The relay over real sockets on the loopback interface.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use ntmobile_port::{Address, Buffers, Local, Pair, Wake, bind};
use ntmobile_relay::{Counters, Relay};

const GUARD: Duration = Duration::from_secs(60);
const PATH: u128 = 1;

/// An end of a path: a plain socket that knows the relay.
struct End {
    socket: UdpSocket,
    relay: SocketAddr,
}

impl End {
    fn v4(relay: &Relay) -> Self {
        Self::at(Ipv4Addr::LOCALHOST.into(), relay)
    }

    fn v6(relay: &Relay) -> Self {
        Self::at(Ipv6Addr::LOCALHOST.into(), relay)
    }

    fn at(host: std::net::IpAddr, relay: &Relay) -> Self {
        let socket = UdpSocket::bind((host, 0)).expect("a socket");
        socket.set_read_timeout(Some(GUARD)).expect("a guard");
        Self {
            socket,
            relay: (host, relay.number()).into(),
        }
    }

    fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("its address")
    }

    fn send(&self, datagram: &[u8]) {
        self.socket.send_to(datagram, self.relay).expect("sent");
    }

    /// The next datagram, which must come from the relay.
    fn take(&self) -> Vec<u8> {
        let mut bytes = vec![0; 1 << 16];
        let (length, source) = self
            .socket
            .recv_from(&mut bytes)
            .expect("something arrives");
        assert_eq!(source, self.relay);
        bytes.truncate(length);
        bytes
    }
}

fn capsule(index: u32, length: usize, fill: u8) -> Vec<u8> {
    let mut bytes = vec![fill; length];
    bytes[..4].copy_from_slice(&[4, 0, 0, 0]);
    bytes[4..8].copy_from_slice(&index.to_be_bytes());
    bytes
}

fn open() -> Relay {
    Relay::open(Local::any(0), 64).expect("a relay")
}

fn join(relay: &Relay, from: &End, to: &End, index: u32) {
    assert!(relay.bind((from.address(), index), to.address(), PATH, 0));
}

/// Waits until the relay has dealt with `count` datagrams.
fn settled(relay: &Relay, count: u64) -> Counters {
    loop {
        let now = relay.counters();
        let Counters {
            received,
            queue_full,
            forwarded,
            forward_failed,
            unbound,
            ..
        } = now;
        let dealt = received + queue_full + forwarded + forward_failed + unbound;
        if dealt + now.over_rate + now.malformed + now.too_long >= count {
            return now;
        }
        std::thread::yield_now();
    }
}

#[test]
fn capsules_are_forwarded_unchanged_between_all_families() {
    let relay = open();
    let ends = [
        End::v4(&relay),
        End::v4(&relay),
        End::v6(&relay),
        End::v6(&relay),
    ];
    for (n, (from, to)) in [(0, 1), (1, 0), (0, 2), (2, 0), (2, 3)]
        .into_iter()
        .enumerate()
    {
        let index = 100 + n as u32;
        join(&relay, &ends[from], &ends[to], index);
        let sent = capsule(index, 1200 + n, 0xa0);

        ends[from].send(&sent);

        assert_eq!(ends[to].take(), sent);
    }
    let usage = relay.usage(PATH).0;
    assert_eq!((usage.packets, usage.bytes), (5, 5 * 1200 + 10));
}

#[test]
fn nothing_is_forwarded_without_a_binding_and_a_hint_answers() {
    let relay = open();
    let (known, other, stranger) = (End::v4(&relay), End::v4(&relay), End::v4(&relay));
    join(&relay, &known, &other, 1);

    stranger.send(&capsule(0x0102_0304, 64, 1));
    assert_eq!(stranger.take(), [7, 1, 1, 0, 0, 0, 0, 0, 1, 2, 3, 4]);
    known.send(&capsule(2, 64, 2));
    other.send(&capsule(1, 64, 3));
    known.send(&capsule(1, 64, 4));

    let mut taken = other.take();
    while taken.len() != 64 {
        taken = other.take();
    }
    assert_eq!(taken, capsule(1, 64, 4));
    assert_eq!(settled(&relay, 4).unbound, 3);
}

#[test]
fn a_flood_of_unbound_capsules_is_answered_by_few_hints() {
    let relay = open();
    let stranger = End::v4(&relay);
    let began = std::time::Instant::now();

    for number in 0..10_000 {
        stranger.send(&capsule(number, 64, 1));
    }
    while relay.counters().hinted == 0 {
        stranger.send(&[5; 64]);
        std::thread::yield_now();
    }
    let hinted = u128::from(relay.counters().hinted);
    let most = began.elapsed().as_millis() / 5 + 1;
    assert!((1..=most).contains(&hinted), "{hinted} of at most {most}");
}

#[test]
fn an_unbound_index_is_forwarded_no_longer() {
    let relay = open();
    let (a, b) = (End::v4(&relay), End::v4(&relay));
    join(&relay, &a, &b, 1);
    join(&relay, &a, &b, 2);

    assert!(relay.unbind(a.address(), 1));
    a.send(&capsule(1, 64, 1));
    a.send(&capsule(2, 64, 2));
    assert_eq!(b.take(), capsule(2, 64, 2));
    assert_eq!(relay.forget(PATH), 1);
    a.send(&capsule(2, 64, 3));

    assert_eq!(settled(&relay, 3).unbound, 2);
    assert_eq!(relay.counters().bindings, 0);
}

#[test]
fn another_path_cannot_take_an_index_in_use() {
    let relay = open();
    let (a, b, thief) = (End::v4(&relay), End::v4(&relay), End::v4(&relay));
    join(&relay, &a, &b, 1);

    assert!(!relay.bind((a.address(), 1), thief.address(), PATH + 1, 0));

    a.send(&capsule(1, 64, 1));
    assert_eq!(b.take(), capsule(1, 64, 1));
}

#[test]
fn all_that_is_no_capsule_waits_for_python() {
    let relay = open();
    let a = End::v4(&relay);
    join(&relay, &a, &a, 0x0505_0505);

    for first in [0_u8, 1, 3, 5, 6, 0x40, 0xff] {
        a.send(&[first, 5, 5, 5, 5, 5, 5, 5]);
    }
    a.send(&[]);
    a.send(&[4; 31]);

    assert_eq!(settled(&relay, 8).malformed, 1);
    let queued = relay.drain(64);
    let firsts: Vec<u8> = queued.iter().map(|datagram| datagram.bytes[0]).collect();
    assert_eq!(firsts, [0, 1, 3, 5, 6, 0x40, 0xff]);
    assert!(
        queued
            .iter()
            .all(|datagram| datagram.source == a.address() && datagram.interface != 0)
    );
}

#[test]
fn a_full_queue_does_not_stop_the_forwarding() {
    let relay = Relay::open(Local::any(0), 2).expect("a relay");
    let (a, b) = (End::v4(&relay), End::v4(&relay));
    join(&relay, &a, &b, 1);

    for _ in 0..50 {
        a.send(&[5; 100]);
    }
    a.send(&capsule(1, 64, 1));

    assert_eq!(b.take(), capsule(1, 64, 1));
    assert_eq!(settled(&relay, 51).queue_full, 48);
    assert_eq!(relay.drain(64).len(), 2);
}

#[test]
fn a_path_above_its_rate_loses_the_excess_and_others_do_not() {
    let relay = open();
    let (a, b, free) = (End::v4(&relay), End::v4(&relay), End::v4(&relay));
    relay.bind((a.address(), 1), b.address(), 1, 1);
    relay.bind((free.address(), 1), b.address(), 2, 0);

    for n in 0..100 {
        a.send(&capsule(1, 1000, n));
    }
    free.send(&capsule(1, 1000, 200));

    let counters = settled(&relay, 101);
    assert_eq!((counters.forwarded, counters.over_rate), (66, 35));
    assert_eq!((0..66).map(|_| b.take()[20]).max(), Some(200));
    assert_eq!(relay.usage(1).0.packets, 65);
}

#[test]
fn the_ecn_mark_survives() {
    let relay = open();
    let (a, b) = (bind(0, 0).expect("a pair"), bind(0, 0).expect("a pair"));
    let at = |pair: &Pair, v6| -> SocketAddr {
        if v6 {
            (Ipv6Addr::LOCALHOST, pair.port).into()
        } else {
            (Ipv4Addr::LOCALHOST, pair.port).into()
        }
    };
    let (wake, mut buffers) = (Wake::new().expect("a wake"), Buffers::new(8));
    for (v6, ecn) in [(false, 1), (false, 3), (true, 2), (true, 0)] {
        assert!(relay.bind((at(&a, v6), 1), at(&b, v6), PATH, 0));
        let to: SocketAddr = match at(&a, v6) {
            SocketAddr::V4(_) => (Ipv4Addr::LOCALHOST, relay.number()).into(),
            SocketAddr::V6(_) => (Ipv6Addr::LOCALHOST, relay.number()).into(),
        };
        let (from, into) = if v6 {
            (a.v6.as_ref().expect("IPv6"), b.v6.as_ref().expect("IPv6"))
        } else {
            (&a.v4, &b.v4)
        };

        from.send(
            &mut Address::new(to, 0, 0).with_ecn(ecn),
            &capsule(1, 64, 1),
        )
        .expect("sent");
        wake.wait(&b).expect("something arrives");
        into.receive(&mut buffers).expect("received");

        assert_eq!(buffers.received().map(|r| r.ecn).collect::<Vec<_>>(), [ecn]);
    }
}

#[test]
fn a_mixed_offload_batch_is_sorted_datagram_by_datagram() {
    let relay = open();
    let from = bind(0, 0).expect("a pair");
    let (b, c) = (End::v4(&relay), End::v4(&relay));
    let source: SocketAddr = (Ipv4Addr::LOCALHOST, from.port).into();
    relay.bind((source, 1), b.address(), 1, 0);
    relay.bind((source, 2), c.address(), 2, 0);
    let batch = [
        capsule(1, 100, 10),
        capsule(1, 100, 11),
        vec![5; 100],
        capsule(2, 100, 12),
        capsule(3, 100, 13),
        capsule(1, 40, 14),
    ];

    let mut to = Address::new(b.relay, 0, 100);
    from.v4.send(&mut to, &batch.concat()).expect("sent");

    assert_eq!(
        [b.take(), b.take(), b.take()],
        [&batch[0], &batch[1], &batch[5]].map(Clone::clone)
    );
    assert_eq!(c.take(), batch[3]);
    let counters = settled(&relay, 6);
    assert_eq!((counters.unbound, counters.received), (1, 1));
}

#[test]
fn a_burst_of_bulk_keeps_its_order() {
    let relay = open();
    let (a, b) = (End::v4(&relay), bind(0, 0).expect("a pair"));
    let to: SocketAddr = (Ipv4Addr::LOCALHOST, b.port).into();
    relay.bind((a.address(), 1), to, 1, 0);

    for n in 0..200 {
        a.send(&capsule(1, if n % 7 == 0 { 900 } else { 1300 }, n));
    }

    let (wake, mut buffers) = (Wake::new().expect("a wake"), Buffers::new(8));
    let mut order: Vec<u8> = Vec::new();
    while order.len() < 200 {
        wake.wait(&b).expect("something arrives");
        b.v4.receive(&mut buffers).expect("received");
        order.extend(
            buffers
                .received()
                .flat_map(|r| r.datagrams().map(|d| d[20])),
        );
    }
    assert!(order.into_iter().eq(0..200));
}

#[test]
fn whatever_arrives_is_forwarded_queued_or_counted() {
    let relay = open();
    let (a, b) = (End::v4(&relay), End::v4(&relay));
    join(&relay, &a, &b, 0);
    let mut state = 1_u64;
    let mut next = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize
    };

    for _ in 0..2000 {
        let mut datagram = vec![0; 1 + next() % 2200];
        datagram
            .iter_mut()
            .take(12)
            .for_each(|byte| *byte = (next() % 6) as u8);
        a.send(&datagram);
    }

    // `settled` returns only when the counters account for every datagram.
    let counters = settled(&relay, 2000);
    assert!(counters.unbound > 0 && counters.malformed > 0 && counters.too_long > 0);
    assert_eq!(counters.received, 64);
}

#[test]
fn closing_twice_is_no_error() {
    let relay = open();

    relay.close();
    relay.close();
}
