//! The port over real sockets on the loopback interface.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::BorrowedFd;

use ntmobile_port::{Buffers, Datagram, LONGEST, Local, Port, Wake, bind, bind_to};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

const GUARD: Timespec = Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};

fn open(queue: usize) -> Port {
    Port::open(Local::any(0), 0, queue, 0).expect("a port")
}

fn v4(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn v6(port: u16) -> SocketAddr {
    (Ipv6Addr::LOCALHOST, port).into()
}

/// Waits until `count` datagrams came.
fn take(port: &Port, count: usize) -> Vec<Datagram> {
    let mut taken = Vec::new();
    while taken.len() < count {
        // SAFETY: the port, and with it the descriptor, outlives this borrow.
        let fd = unsafe { BorrowedFd::borrow_raw(port.fd()) };
        let mut watched = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        assert_eq!(poll(&mut watched, Some(&GUARD)), Ok(1), "nothing arrived");
        taken.extend(port.drain(256));
    }
    taken
}

#[test]
fn both_families_have_the_same_number() {
    let pair = bind(0, 0).expect("a pair");

    let taken = bind(pair.port, 0).expect_err("the number is taken");

    assert_ne!(pair.port, 0);
    assert!(pair.v6.is_some());
    assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
}

#[test]
fn datagrams_keep_source_interface_and_order_in_both_families() {
    let (here, there) = (open(64), open(64));
    for to in [v4(there.number()), v6(there.number())] {
        for n in 0..20_u8 {
            here.send(to, &[n; 30], 0).expect("sent");
        }

        let taken = take(&there, 20);

        let from = if to.is_ipv4() {
            v4(here.number())
        } else {
            v6(here.number())
        };
        assert!(taken.iter().all(|d| d.source == from && d.interface != 0));
        assert!(taken.iter().map(|d| d.bytes[0]).eq(0..20));
    }
    assert_eq!(there.counters().received, 40);
    assert_eq!(here.counters().sent, 40);
}

#[test]
fn the_interface_chooses_the_uplink() {
    let (here, there) = (open(64), open(64));
    here.send(v4(there.number()), b"learn the index", 0)
        .expect("sent");
    let loopback = take(&there, 1)[0].interface;

    for to in [v4(there.number()), v6(there.number())] {
        here.send(to, b"through it", loopback).expect("sent");
        here.send(to, b"there is no such interface", 999_999)
            .expect_err("no such interface");
    }

    assert_eq!(take(&there, 2).len(), 2);
    assert_eq!(here.counters().send_failed, 2);
}

#[test]
fn datagrams_longer_than_the_limit_are_counted_and_dropped() {
    let port = open(64);
    let sender = UdpSocket::bind(v4(0)).expect("a socket");

    sender
        .send_to(&[1; LONGEST + 1], v4(port.number()))
        .expect("sent");
    sender
        .send_to(&[2; LONGEST], v4(port.number()))
        .expect("sent");

    assert_eq!(take(&port, 1)[0].bytes, [2; LONGEST]);
    assert_eq!(port.counters().too_long, 1);
}

#[test]
fn a_full_queue_drops_and_counts_and_goes_on() {
    let (here, there) = (open(4), open(4));
    (0..50_u8).for_each(|n| here.send(v4(there.number()), &[n; 9], 0).expect("sent"));
    while there.counters().received + there.counters().queue_full < 50 {
        std::thread::yield_now();
    }

    let kept = take(&there, 4);
    here.send(v4(there.number()), b"after the flood", 0)
        .expect("sent");

    assert!(kept.iter().map(|d| d.bytes[0]).eq(0..4));
    assert_eq!(there.counters().queue_full, 46);
    assert_eq!(take(&there, 1)[0].bytes, b"after the flood");
}

#[test]
fn a_send_to_a_closed_port_does_not_end_the_reader() {
    let (here, there) = (open(64), open(64));
    let closed = v4(9);

    for _ in 0..5 {
        here.send(closed, b"nobody listens", 0).expect("sent");
    }
    there
        .send(v4(here.number()), b"still here", 0)
        .expect("sent");

    assert_eq!(take(&here, 1)[0].bytes, b"still here");
}

#[test]
fn a_segmented_send_arrives_as_single_datagrams() {
    let (here, there) = (bind(0, 0).expect("a pair"), bind(0, 0).expect("a pair"));
    let payload: Vec<u8> = (0..10_000_u32).map(|n| (n % 251) as u8).collect();
    let mut to = ntmobile_port::Address::new(v4(there.port), 0, 1300);
    here.v4.send(&mut to, &payload).expect("sent");

    let (wake, mut buffers) = (Wake::new().expect("a wake"), Buffers::new(8));
    let mut taken: Vec<Vec<u8>> = Vec::new();
    while taken.concat().len() < payload.len() {
        assert!(wake.wait(&there).expect("a wait").v4);
        there.v4.receive(&mut buffers).expect("received");
        taken.extend(
            buffers
                .received()
                .flat_map(|r| r.datagrams().map(<[u8]>::to_vec)),
        );
    }

    assert_eq!(taken.concat(), payload);
    assert_eq!(
        taken.iter().map(Vec::len).collect::<Vec<_>>(),
        [vec![1300; 7], vec![900]].concat()
    );
}

#[test]
fn closing_ends_the_thread_and_dropping_frees_the_number() {
    // Below the range that the system gives to sockets that ask for any number.
    let port = (20_000..20_500)
        .find_map(|number| Port::open(Local::any(number), 0, 4, 0).ok())
        .expect("a free number");
    let number = port.number();

    port.close();
    port.close();
    drop(port);

    bind(number, 0).expect("the number is free again");
}

#[test]
fn a_port_bound_to_one_address_answers_from_it_and_hears_nothing_else() {
    let second = Ipv4Addr::new(127, 0, 0, 2);
    let local = Local {
        v4: second,
        v6: Some(Ipv6Addr::LOCALHOST),
        ..Local::any(0)
    };
    let there = Port::open(local, 0, 64, 0).expect("a port");
    let here = open(64);

    here.send(v4(there.number()), b"to the first", 0)
        .expect("sent");
    for to in [(second, there.number()).into(), v6(there.number())] {
        here.send(to, b"asked", 0).expect("sent");
        assert_eq!(take(&there, 1)[0].bytes, b"asked");
        let back = if to.is_ipv4() { v4 } else { v6 };
        there.send(back(here.number()), b"answer", 0).expect("sent");
        assert_eq!(take(&here, 1)[0].source, to);
    }
    assert_eq!(there.counters().received, 2);
}

#[test]
fn without_an_ipv6_socket_the_number_is_free_there_for_another() {
    let here = |host| Local {
        v4: Ipv4Addr::new(127, 0, 0, host),
        v6: None,
        ..Local::any(0)
    };
    let first = Port::open(here(1), 0, 4, 0).expect("a port");
    let same = Local {
        port: first.number(),
        ..here(2)
    };

    Port::open(same, 0, 4, 0).expect("the same number at another address");

    let refused = first.send(v6(first.number()), b"there is none", 0);
    assert_eq!(
        refused.expect_err("no socket").raw_os_error(),
        Some(libc::EAFNOSUPPORT)
    );
}

/// The negative twin.
#[test]
fn with_an_ipv6_socket_on_every_address_the_number_is_taken_there() {
    let here = |host| Local {
        v4: Ipv4Addr::new(127, 0, 0, host),
        ..Local::any(0)
    };
    let first = Port::open(here(1), 0, 4, 0).expect("a port");

    let same = Local {
        port: first.number(),
        ..here(2)
    };

    let refused = Port::open(same, 0, 4, 0).expect_err("taken in IPv6");
    assert_eq!(refused.raw_os_error(), Some(libc::EADDRINUSE));
}

#[test]
fn a_port_on_every_address_answers_from_where_it_was_asked() {
    assert!(answers_from_where_it_was_asked(16));
}

/// The negative twin.
#[test]
fn a_port_that_remembers_no_peers_answers_from_the_systems_choice() {
    assert!(!answers_from_where_it_was_asked(0));
}

fn answers_from_where_it_was_asked(homes: usize) -> bool {
    let there = Port::open(Local::any(0), 0, 64, homes).expect("a port");
    let here = open(64);
    let asked = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), there.number()));

    here.send(asked, b"asked", 0).expect("sent");
    let source = take(&there, 1)[0].source;
    there.send(source, b"answer", 0).expect("sent");

    take(&here, 1)[0].source == asked
}

#[test]
fn an_address_that_the_machine_lost_is_replaced_by_the_systems_choice() {
    let (pair, there) = (bind(0, 0).expect("a pair"), open(64));
    let lost = [
        Ipv4Addr::new(203, 0, 113, 10).into(),
        "2001:db8::10".parse().expect("an address"),
    ];

    for (source, to) in lost.into_iter().zip([v4, v6]) {
        pair.send_from(Some(source), to(there.number()), b"still", 0)
            .expect("sent");
    }

    assert_eq!(take(&there, 2).len(), 2);
}

#[test]
fn an_address_of_another_machine_cannot_be_bound() {
    let local = Local {
        v4: Ipv4Addr::new(203, 0, 113, 10),
        ..Local::any(0)
    };

    let refused = bind_to(local, 0).expect_err("not ours");

    assert_eq!(refused.raw_os_error(), Some(libc::EADDRNOTAVAIL));
}
