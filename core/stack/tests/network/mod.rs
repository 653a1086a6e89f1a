//! Two stacks, and a network of one's choice between them, in virtual time.

use std::collections::BinaryHeap;
use std::net::{IpAddr, SocketAddr};

use ntmobile_stack::{Buffers, Duration, Event, Instant, Pair, Received, Stack};
use ntmobile_tunnel::Left;

pub const V4: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(100, 64, 0, 1)),
    IpAddr::V4(std::net::Ipv4Addr::new(100, 64, 0, 2)),
];
pub const V6: [IpAddr; 2] = [
    IpAddr::V6(std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1)),
    IpAddr::V6(std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2)),
];
const ATTEMPTS: u32 = 8;
const LATENCY: Duration = Duration::from_millis(10);

/// What the network does to so many of a hundred packets.
#[allow(dead_code, reason = "not every test has a bad network")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    pub seed: u64,
    pub lost: u64,
    pub doubled: u64,
    pub late: u64,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Flying {
    at: std::cmp::Reverse<(Instant, u64)>,
    to: usize,
    packet: Vec<u8>,
}

pub struct Network {
    pub stacks: [Stack; 2],
    pub now: Instant,
    weather: Weather,
    flying: BinaryHeap<Flying>,
    sent: u64,
    buffer: Vec<u8>,
    /// One way.
    pub latency: Duration,
    /// Super-packets leave as the segments that they stand for, as through a tunnel.
    pub cuts: bool,
    /// Nothing comes through.
    pub hole: bool,
    /// Both ends take each other for one without selective acknowledgements.
    pub plain: bool,
    /// Bytes of the longest packet that left.
    pub longest: usize,
}

impl Network {
    #[allow(dead_code, reason = "not every test has small buffers")]
    pub fn new(weather: Weather) -> Self {
        Self::with_buffers(weather, 1 << 16)
    }

    /// Each connection takes so many bytes each way.
    pub fn with_buffers(weather: Weather, size: usize) -> Self {
        let buffers = Buffers {
            receive: size,
            send: size,
        };
        let stack = |number: usize| {
            let seed = 7 + number as u64;
            let stack = Stack::new(seed, buffers, Instant::ZERO).expect("descriptors are left");
            stack.set_addresses(&[V4[number], V6[number]], Instant::ZERO);
            stack
        };
        Self {
            stacks: [stack(0), stack(1)],
            now: Instant::ZERO,
            weather,
            flying: BinaryHeap::new(),
            sent: 0,
            buffer: vec![0; 1 << 16],
            latency: LATENCY,
            cuts: false,
            hole: false,
            plain: false,
            longest: 0,
        }
    }

    /// Lets time pass until the next thing happens; false when nothing will.
    pub fn step(&mut self) -> bool {
        self.collect();
        let timers = self
            .stacks
            .iter()
            .filter_map(|stack| stack.expire(self.now));
        let arrival = self.flying.peek().map(|flying| flying.at.0.0);
        let Some(next) = timers.chain(arrival).min() else {
            return !self.flying.is_empty();
        };
        self.now = self.now.max(next);
        while self
            .flying
            .peek()
            .is_some_and(|flying| flying.at.0.0 <= self.now)
        {
            if let Some(flying) = self.flying.pop() {
                self.stacks[flying.to].handle(flying.packet, self.now);
            }
        }
        for stack in &self.stacks {
            stack.expire(self.now);
        }
        self.collect();
        true
    }

    /// Steps until `done`; panics when that takes an hour.
    pub fn until(&mut self, mut done: impl FnMut(&Self) -> bool) {
        let end = self.now + Duration::from_secs(3600);
        while !done(self) {
            assert!(self.step(), "nothing will happen any more");
            assert!(self.now < end, "it takes an hour already");
        }
    }

    /// A connection from the first stack to the second: both ends' numbers. One of which no
    /// answer came through is begun again, as applications do.
    pub fn connection(&mut self, hosts: [IpAddr; 2]) -> (u64, u64, Pair) {
        let (listener, port) = self.stacks[1].listen(0, 8).expect("a port is free");
        let there = SocketAddr::new(hosts[1], port);
        for _ in 0..ATTEMPTS {
            let (near, own) = self.stacks[0].connect(there, self.now).expect("a port");
            let mut far = None;
            self.until(|network| {
                far = network.accepted(listener, own.local);
                far.is_some() || network.stacks[0].failure(near).is_some()
            });
            if let Some((far, pair)) = far {
                return (near, far, pair);
            }
            self.stacks[0].leave(near, self.now);
        }
        panic!("{ATTEMPTS} connections failed");
    }

    /// The connection of that peer, where it waits to be accepted; one given up is broken off.
    fn accepted(&self, listener: u64, peer: SocketAddr) -> Option<(u64, Pair)> {
        while let Some((id, pair)) = self.stacks[1].accept(listener) {
            if pair.remote == peer {
                return Some((id, pair));
            }
            self.stacks[1].abort(id, self.now);
        }
        None
    }

    fn collect(&mut self) {
        for from in 0..2 {
            while let Some((left, place)) = self.stacks[from].take(&mut self.buffer) {
                let packet = self.buffer[place].to_vec();
                match left {
                    Left::Segments(whole) if self.cuts => {
                        let headers = usize::from(whole.headers);
                        for at in (headers..packet.len()).step_by(usize::from(whole.size)) {
                            let end = packet.len().min(at + usize::from(whole.size));
                            self.launch(1 - from, segment(&packet, headers, at, end));
                        }
                    }
                    _ => self.launch(1 - from, packet),
                }
            }
        }
    }

    /// 0 to 99.
    fn chance(&mut self) -> u64 {
        // SplitMix64's mixing of a counter.
        let mut mixed = self
            .sent
            .wrapping_add(self.weather.seed)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % 100
    }

    fn launch(&mut self, to: usize, mut packet: Vec<u8>) {
        if self.plain {
            hide_sack(&mut packet);
        }
        self.longest = self.longest.max(packet.len());
        if self.hole {
            return;
        }
        let weather = self.weather;
        let delays: &[u32] = match self.chance() {
            chance if chance < weather.lost => &[],
            chance if chance < weather.lost + weather.doubled => &[1, 2],
            chance if chance < weather.lost + weather.doubled + weather.late => &[4],
            _ => &[1],
        };
        self.sent += 1;
        for (copy, delay) in delays.iter().enumerate() {
            self.flying.push(Flying {
                at: std::cmp::Reverse((
                    self.now + self.latency * *delay,
                    2 * self.sent + copy as u64,
                )),
                to,
                packet: packet.clone(),
            });
        }
    }
}

/// What of a super-packet lies between `at` and `end`, as a packet.
fn segment(packet: &[u8], headers: usize, at: usize, end: usize) -> Vec<u8> {
    const FIN_PSH: u8 = 0x09;
    let mut cut = [&packet[..headers], &packet[at..end]].concat();
    let total = cut.len() as u16;
    let (field, length, tcp) = if cut[0] >> 4 == 4 {
        (2, total, 20)
    } else {
        (4, total - 40, 40)
    };
    cut[field..field + 2].copy_from_slice(&length.to_be_bytes());
    let number = u32::from_be_bytes([cut[tcp + 4], cut[tcp + 5], cut[tcp + 6], cut[tcp + 7]]);
    let number = number.wrapping_add((at - headers) as u32);
    cut[tcp + 4..tcp + 8].copy_from_slice(&number.to_be_bytes());
    if end < packet.len() {
        cut[tcp + 13] &= !FIN_PSH;
    }
    cut
}

/// Makes padding of the option "SACK permitted" in a SYN.
fn hide_sack(packet: &mut [u8]) {
    const SYN: u8 = 0x02;
    let tcp = if packet[0] >> 4 == 4 { 20 } else { 40 };
    if packet[tcp + 13] & SYN == 0 {
        return;
    }
    let mut at = tcp + 20;
    while at < packet.len() {
        match packet[at] {
            0 => return,
            1 => at += 1,
            4 => packet[at..at + 2].fill(1),
            _ => at += usize::from(packet[at + 1]),
        }
    }
}

/// Reads all there is; whether the end was among it.
pub fn read(stack: &Stack, id: u64, now: Instant, into: &mut Vec<u8>) -> bool {
    loop {
        match stack.receive(id, usize::MAX, now, |bytes| into.extend_from_slice(bytes)) {
            Ok(Received::Data(_)) => {}
            Ok(Received::Nothing) => return false,
            Ok(Received::End) => return true,
            Err(failure) => panic!("{failure}"),
        }
    }
}

#[allow(dead_code, reason = "not every test waits for them")]
pub fn events(stack: &Stack, id: u64) -> u8 {
    let all: Vec<Event> = stack.drain(64);
    all.iter()
        .filter(|event| event.id == id)
        .fold(0, |all, event| all | event.what)
}
