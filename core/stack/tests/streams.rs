//! Streams between two stacks over a network that loses, doubles and delays.

mod network;

use network::{Network, V4, V6, Weather, events, read};
use ntmobile_stack::{Duration, Event, Failure, Instant, Received, Stack};
use proptest::prelude::*;
use std::net::SocketAddr;

fn weather() -> impl Strategy<Value = Weather> {
    let parts = (any::<u64>(), 0..20_u64, 0..20_u64, 0..20_u64);
    parts.prop_map(|(seed, lost, doubled, late)| Weather {
        seed,
        lost,
        doubled,
        late,
    })
}

/// Sends `there` from the first stack and `back` from the second, both at
/// once, until both have read the end; what they read.
fn exchange(network: &mut Network, v6: bool, there: &[u8], back: &[u8]) -> [Vec<u8>; 2] {
    let (near, far, _) = network.connection(if v6 { V6 } else { V4 });
    let ids = [near, far];
    let mut left = [there, back];
    let mut got = [Vec::new(), Vec::new()];
    let mut ended = [false; 2];
    let mut closed = [false; 2];
    network.until(|network| {
        for end in 0..2 {
            let (stack, id) = (&network.stacks[end], ids[end]);
            if !closed[end] {
                let sent = stack.send(id, left[end], network.now).expect("it stands");
                left[end] = &left[end][sent..];
            }
            if left[end].is_empty() && !closed[end] && stack.failure(id).is_none() {
                stack.shutdown(id, network.now).expect("it stands");
                closed[end] = true;
            }
            ended[end] = read(stack, id, network.now, &mut got[end]);
        }
        ended == [true; 2] && closed == [true; 2]
    });
    for (stack, id) in network.stacks.iter().zip(ids) {
        stack.leave(id, network.now);
    }
    got
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_the_network_does_streams_arrive_whole(
        weather in weather(),
        there in 0_usize..300_000,
        back in 0_usize..300_000,
        v6 in any::<bool>(),
    ) {
        let bytes = |count: usize, salt: usize| -> Vec<u8> {
            (0..count).map(|at| (at * 31 + at / 251 + salt) as u8).collect()
        };
        let (there, back) = (bytes(there, 1), bytes(back, 2));
        let mut network = Network::new(weather);

        let got = exchange(&mut network, v6, &there, &back);

        prop_assert!(got[1] == there);
        prop_assert!(got[0] == back);
    }
}

#[test]
fn after_both_ends_have_left_nothing_is_kept() {
    let mut network = Network::new(Weather::default());

    exchange(&mut network, false, b"question", b"answer");
    network.until(|network| network.stacks.iter().all(|stack| stack.count() == 0));
}

/// What a peer says that still keeps an older connection between the same ports as `opening`.
fn stray(opening: &[u8]) -> Vec<u8> {
    const ACK: u8 = 0x10;
    let mut packet = opening[..40].to_vec();
    packet[3] = 40;
    packet[12..16].copy_from_slice(&opening[16..20]);
    packet[16..20].copy_from_slice(&opening[12..16]);
    packet[20..22].copy_from_slice(&opening[22..24]);
    packet[22..24].copy_from_slice(&opening[20..22]);
    let own = u32::from_be_bytes([opening[24], opening[25], opening[26], opening[27]]);
    packet[28..32].copy_from_slice(&own.wrapping_add(1_000_000).to_be_bytes());
    packet[32] = 5 << 4;
    packet[33] = ACK;
    packet
}

#[test]
fn what_a_peer_still_says_of_an_older_connection_does_the_new_one_no_harm() {
    const RST: u8 = 0x04;
    let mut network = Network::new(Weather::default());
    let (listener, port) = network.stacks[1].listen(0, 8).expect("a port is free");
    let there = SocketAddr::new(V4[1], port);
    let (near, _) = network.stacks[0]
        .connect(there, network.now)
        .expect("a port");
    let mut buffer = vec![0; 1 << 16];
    let mut next = |stack: &Stack| {
        let (_, place) = stack.take(&mut buffer).expect("a packet leaves");
        buffer[place].to_vec()
    };
    let opening = next(&network.stacks[0]);
    network.stacks[0].handle(stray(&opening), network.now);
    let reset = next(&network.stacks[0]);
    assert_eq!(reset[33] & RST, RST, "that one is not ours");

    network.stacks[1].handle(opening, network.now);
    let mut far = None;
    network.until(|network| {
        far = network.stacks[1].accept(listener);
        far.is_some()
    });
    let (far, _) = far.expect("it was accepted");
    let said = vec![7; 50_000];
    assert_eq!(network.stacks[1].send(far, &said, network.now), Ok(50_000));
    let mut got = Vec::new();
    network.until(|network| {
        read(&network.stacks[0], near, network.now, &mut got);
        got.len() == said.len()
    });
}

#[test]
fn one_direction_ends_and_the_other_goes_on() {
    let mut network = Network::new(Weather::default());
    let (near, far, _) = network.connection(V4);
    network.stacks[0]
        .shutdown(near, network.now)
        .expect("it stands");
    let mut got = Vec::new();
    network.until(|network| read(&network.stacks[1], far, network.now, &mut got));

    network.stacks[1]
        .send(far, b"still here", network.now)
        .expect("half open");
    network.until(|network| {
        read(&network.stacks[0], near, network.now, &mut got);
        got == b"still here"
    });

    assert_eq!(
        network.stacks[0].send(near, b"more", network.now),
        Err(Failure::Closed)
    );
}

#[test]
fn who_does_not_read_stops_who_sends() {
    let mut network = Network::new(Weather::default());
    let (near, far, _) = network.connection(V6);
    let piece = [7; 1000];
    let mut sent = 0;
    for _ in 0..2000 {
        sent += network.stacks[0]
            .send(near, &piece, network.now)
            .expect("it stands");
        network.step();
    }
    assert!(sent < 300_000, "two buffers of 64 KiB took {sent}");

    let mut got = Vec::new();
    network.until(|network| {
        read(&network.stacks[1], far, network.now, &mut got);
        got.len() == sent
    });
    assert!(events(&network.stacks[0], near) & Event::WRITABLE != 0);
}

#[test]
fn where_nobody_listens_the_connection_is_refused() {
    let mut network = Network::new(Weather::default());
    let there = SocketAddr::new(V4[1], 9);
    let (near, _) = network.stacks[0]
        .connect(there, network.now)
        .expect("a port");

    network.until(|network| network.stacks[0].failure(near).is_some());

    assert_eq!(network.stacks[0].failure(near), Some(Failure::Refused));
    assert!(events(&network.stacks[0], near) & Event::ENDED != 0);
}

#[test]
fn a_connection_that_nobody_answers_times_out() {
    let mut network = Network::new(Weather {
        lost: 100,
        ..Weather::default()
    });
    let there = SocketAddr::new(V4[1], 9);
    let (near, _) = network.stacks[0]
        .connect(there, network.now)
        .expect("a port");

    network.until(|network| network.stacks[0].failure(near).is_some());

    assert_eq!(network.stacks[0].failure(near), Some(Failure::TimedOut));
}

#[test]
fn who_breaks_off_resets_the_other_end() {
    let mut network = Network::new(Weather::default());
    let (near, far, _) = network.connection(V4);

    network.stacks[0].abort(near, network.now);
    network.until(|network| network.stacks[1].failure(far).is_some());

    assert_eq!(network.stacks[1].failure(far), Some(Failure::Reset));
    assert_eq!(network.stacks[0].count(), 0);
    let read = network.stacks[1].receive(far, 10, network.now, |_| {});
    assert_eq!(read, Err(Failure::Reset));
}

#[test]
fn a_full_listener_lets_the_next_peer_wait() {
    let mut network = Network::new(Weather::default());
    let (listener, port) = network.stacks[1].listen(0, 1).expect("a port");
    let there = SocketAddr::new(V4[1], port);
    let ids = [0, 1].map(|_| {
        network.stacks[0]
            .connect(there, network.now)
            .expect("a port")
            .0
    });
    let stands = |network: &Network, id| network.stacks[0].send(id, b"x", network.now) == Ok(1);
    network.until(|network| stands(network, ids[0]));
    while network.now < Instant::from_secs(5) {
        network.step();
    }
    assert!(!stands(&network, ids[1]), "one waits already");

    assert!(network.stacks[1].accept(listener).is_some());
    network.until(|network| stands(network, ids[1]));
}

#[test]
fn a_listener_that_ends_breaks_off_what_waits() {
    let mut network = Network::new(Weather::default());
    let (listener, port) = network.stacks[1].listen(0, 4).expect("a port");
    let there = SocketAddr::new(V4[1], port);
    let (near, _) = network.stacks[0]
        .connect(there, network.now)
        .expect("a port");
    network.until(|network| network.stacks[0].send(near, b"x", network.now) == Ok(1));

    network.stacks[1].close_listener(listener, network.now);
    network.until(|network| network.stacks[0].failure(near).is_some());

    assert_eq!(network.stacks[0].failure(near), Some(Failure::Reset));
    assert_eq!(network.stacks[1].count(), 0);
}

#[test]
fn a_smaller_path_makes_smaller_segments() {
    let mut network = Network::new(Weather::default());
    for stack in &network.stacks {
        for host in V4 {
            stack.set_mtu(host, 9000, network.now);
        }
    }
    let (near, far, _) = network.connection(V4);
    network.stacks[0].set_mtu(V4[1], 1300, network.now);

    network.stacks[0]
        .send(near, &[1; 5000], network.now)
        .expect("it stands");

    let mut buffer = vec![0; 1 << 16];
    let (left, place) = network.stacks[0]
        .take(&mut buffer)
        .expect("a super-packet leaves");
    let ntmobile_tunnel::Left::Segments(whole) = left else {
        panic!("{left:?}");
    };
    assert_eq!(whole.size, 1300 - 40);
    network.stacks[1].handle(buffer[place].to_vec(), network.now);
    let mut got = Vec::new();
    network.until(|network| {
        read(&network.stacks[1], far, network.now, &mut got);
        got.len() == 5000
    });
}

#[test]
fn reading_nothing_is_no_end() {
    let mut network = Network::new(Weather::default());
    let (near, _, _) = network.connection(V4);

    let read = network.stacks[0].receive(near, 10, network.now, |_| {});

    assert_eq!(read, Ok(Received::Nothing));
}

#[test]
fn a_node_connects_to_itself() {
    for hosts in [V4, V6] {
        let mut network = Network::new(Weather::default());
        let (listener, port) = network.stacks[0].listen(0, 8).expect("a port");
        let there = SocketAddr::new(hosts[0], port);
        let (near, _) = network.stacks[0]
            .connect(there, network.now)
            .expect("a port");
        let (far, pair) = network.stacks[0].accept(listener).expect("it stands");
        assert_eq!(pair.remote.ip(), hosts[0]);
        let said: Vec<u8> = (0..200_000).map(|at| (at / 3) as u8).collect();

        let (mut left, mut got) = (&said[..], Vec::new());
        network.until(|network| {
            let stack = &network.stacks[0];
            let sent = stack.send(near, left, network.now).expect("it stands");
            left = &left[sent..];
            read(stack, far, network.now, &mut got);
            got.len() == said.len()
        });

        assert!(got == said);
        for id in [near, far] {
            network.stacks[0].leave(id, network.now);
        }
        network.until(|network| network.stacks[0].count() == 0);
        assert!(network.stacks[0].take(&mut vec![0; 1 << 16]).is_none());
    }
}

#[test]
fn a_node_that_does_not_listen_refuses_itself() {
    let network = Network::new(Weather::default());
    let there = SocketAddr::new(V4[0], 9);
    let (near, _) = network.stacks[0]
        .connect(there, network.now)
        .expect("a port");

    assert_eq!(network.stacks[0].failure(near), Some(Failure::Refused));
}

/// Lets a stack alone until its connection has failed; what it sends is lost.
fn alone_until_failed(stack: &Stack, id: u64, mut now: Instant) -> Instant {
    let mut buffer = vec![0; 1 << 16];
    while stack.failure(id).is_none() {
        now = now.max(stack.expire(now).expect("something is due"));
        stack.expire(now);
        while stack.take(&mut buffer).is_some() {}
    }
    now
}

#[test]
fn what_nobody_answers_for_a_quarter_of_an_hour_is_given_up() {
    let mut network = Network::new(Weather::default());
    let (near, _, _) = network.connection(V4);
    let begun = network.now;
    network.stacks[0]
        .send(near, b"anybody?", begun)
        .expect("it stands");

    let ended = alone_until_failed(&network.stacks[0], near, begun);

    assert_eq!(network.stacks[0].failure(near), Some(Failure::TimedOut));
    assert_eq!(ended - begun, Duration::from_secs(15 * 60));
}

#[test]
fn a_connection_that_is_silent_lives_on() {
    let mut network = Network::new(Weather::default());
    let (near, far, _) = network.connection(V4);
    network.now += Duration::from_secs(24 * 3600);
    for stack in &network.stacks {
        stack.expire(network.now);
    }

    network.stacks[0]
        .send(near, b"hello", network.now)
        .expect("it stands");

    let mut got = Vec::new();
    network.until(|network| {
        read(&network.stacks[1], far, network.now, &mut got);
        got == b"hello"
    });
}

/// How long it takes until much has arrived.
fn duration_of(count: usize, hosts: [std::net::IpAddr; 2]) -> Duration {
    let mut network = Network::with_buffers(Weather::default(), 1 << 20);
    let (near, far, _) = network.connection(hosts);
    let begun = network.now;
    let piece = vec![7; 1 << 18];
    let (mut sent, mut got) = (0, Vec::new());
    network.until(|network| {
        let next = &piece[..piece.len().min(count - sent)];
        sent += network.stacks[0]
            .send(near, next, network.now)
            .expect("it stands");
        read(&network.stacks[1], far, network.now, &mut got);
        got.len() == count
    });
    network.now - begun
}

#[test]
fn a_stream_fills_its_window_after_a_few_round_trips_though_few_acknowledgements_come() {
    for hosts in [V4, V6] {
        // Round trips of 20 ms: 8 carry 8 MiB, 9 at most double 2 segments to 1 MiB. One segment
        // an acknowledgement takes 2.7 s.
        assert!(duration_of(8 << 20, hosts) < Duration::from_millis(700));
    }
}

#[test]
fn a_connection_whose_every_answer_was_lost_is_begun_again_as_applications_do() {
    let mut network = Network::new(Weather {
        seed: 1288, // Of those from 0 the first in which no answer to the first SYN comes through.
        lost: 19,
        ..Weather::default()
    });
    let (near, far, _) = network.connection(V4);

    assert_eq!(network.stacks[0].send(near, b"at last", network.now), Ok(7));
    let mut got = Vec::new();
    network.until(|network| {
        read(&network.stacks[1], far, network.now, &mut got);
        got == b"at last"
    });
    assert!(
        network.now > Instant::from_secs(10),
        "the first attempt was given up"
    );
}
