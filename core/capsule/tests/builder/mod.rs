//! Builds inner packets from scratch, without a line of the code under test:
//! every field is written in order, every checksum summed word by word.

#![allow(dead_code, reason = "each test takes what it needs")]

use proptest::prelude::*;

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// Everything about a packet but its addresses.
#[derive(Clone, Debug)]
pub struct Spec {
    pub v6: bool,
    pub class: u8,
    pub identification: u16,
    pub options: bool,
    pub fragment: Fragment,
    pub upper: Upper,
}

#[derive(Clone, Debug)]
pub enum Fragment {
    Whole,
    /// The first one; `rest` is the part of the datagram in later ones.
    First {
        rest: Vec<u8>,
    },
    /// A later one, nothing but payload.
    Later {
        bytes: Vec<u8>,
    },
}

#[derive(Clone, Debug)]
pub enum Upper {
    Tcp(Tcp),
    Udp {
        checksum: bool,
        payload: Vec<u8>,
    },
    Echo {
        payload: Vec<u8>,
    },
    /// An ICMP error that quotes the first `cut` bytes of a packet behind its IP header.
    Error {
        quoted: Box<Spec>,
        cut: usize,
    },
    /// A protocol whose checksum does not cover the addresses.
    Other {
        payload: Vec<u8>,
    },
}

#[derive(Clone, Debug)]
pub struct Tcp {
    pub sequence: u32,
    pub flags: u8,
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
}

/// The addresses of a packet, and of the one quoted in it.
#[derive(Clone, Debug)]
pub struct Ends {
    pub source: Vec<u8>,
    pub destination: Vec<u8>,
    pub quoted_source: Vec<u8>,
    pub quoted_destination: Vec<u8>,
}

/// What TCP's and UDP's checksum fields are to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sums {
    Full,
    Partial,
}

impl Ends {
    /// Between two ends; a quoted packet goes the other way.
    pub fn between(source: &[u8], destination: &[u8]) -> Self {
        Self {
            source: source.into(),
            destination: destination.into(),
            quoted_source: destination.into(),
            quoted_destination: source.into(),
        }
    }

    fn of_quoted(&self) -> Self {
        Self::between(&self.quoted_source, &self.quoted_destination)
    }
}

pub fn build(spec: &Spec, ends: &Ends, sums: Sums) -> Vec<u8> {
    let rest: &[u8] = match &spec.fragment {
        Fragment::First { rest } => rest,
        _ => &[],
    };
    let (protocol, upper) = match &spec.fragment {
        Fragment::Later { bytes } => (UDP, bytes.clone()),
        _ => upper(spec, ends, rest, sums),
    };
    if spec.v6 {
        ipv6(spec, ends, protocol, &upper)
    } else {
        ipv4(spec, ends, protocol, &upper)
    }
}

fn upper(spec: &Spec, ends: &Ends, rest: &[u8], sums: Sums) -> (u8, Vec<u8>) {
    match &spec.upper {
        Upper::Tcp(tcp) => {
            let bytes = tcp_bytes(tcp);
            (TCP, summed(bytes, 16, TCP, ends, rest, sums))
        }
        Upper::Udp { checksum, payload } => {
            let length = 8 + payload.len() + rest.len();
            let mut bytes = [5000_u16, 6000, length as u16, 0]
                .map(u16::to_be_bytes)
                .concat();
            bytes.extend(payload);
            if *checksum {
                bytes = summed(bytes, 6, UDP, ends, rest, sums);
            }
            (UDP, bytes)
        }
        Upper::Echo { payload } => {
            let kind = if spec.v6 { 128 } else { 8 };
            let bytes = [&[kind, 0, 0, 0, 1, 2, 3, 4], &payload[..]].concat();
            icmp(spec, bytes, ends, rest)
        }
        Upper::Error { quoted, cut } => {
            let kind = if spec.v6 { 1 } else { 3 };
            let quote = build(quoted, &ends.of_quoted(), Sums::Full);
            let most = quote.len().min(header_length(quoted) + cut);
            let bytes = [&[kind, 1, 0, 0, 0, 0, 0, 0], &quote[..most]].concat();
            icmp(spec, bytes, ends, rest)
        }
        Upper::Other { payload } => (47, payload.clone()),
    }
}

fn tcp_bytes(tcp: &Tcp) -> Vec<u8> {
    let mut bytes = [5000_u16, 6000].map(u16::to_be_bytes).concat();
    bytes.extend(tcp.sequence.to_be_bytes());
    bytes.extend(77_u32.to_be_bytes());
    bytes.push((((20 + tcp.options.len()) / 4) << 4) as u8);
    bytes.push(tcp.flags);
    bytes.extend([0x10, 0x00, 0, 0, 0, 0]);
    bytes.extend(&tcp.options);
    bytes.extend(&tcp.payload);
    bytes
}

/// ICMPv6 covers the addresses, ICMP does not.
fn icmp(spec: &Spec, mut bytes: Vec<u8>, ends: &Ends, rest: &[u8]) -> (u8, Vec<u8>) {
    if spec.v6 {
        return (58, summed(bytes, 2, 58, ends, rest, Sums::Full));
    }
    let checksum = !sum(&[&bytes, rest].concat());
    bytes[2..4].copy_from_slice(&checksum.to_be_bytes());
    (1, bytes)
}

fn summed(
    mut bytes: Vec<u8>,
    at: usize,
    protocol: u8,
    ends: &Ends,
    rest: &[u8],
    sums: Sums,
) -> Vec<u8> {
    let length = (bytes.len() + rest.len()) as u32;
    let mut covered = [&ends.source[..], &ends.destination].concat();
    covered.extend(length.to_be_bytes());
    covered.extend([0, 0, 0, protocol]);
    let field = match sums {
        Sums::Partial => sum(&covered),
        Sums::Full => {
            covered.extend(&bytes);
            covered.extend(rest);
            !sum(&covered)
        }
    };
    let none = protocol == UDP && field == 0;
    let field = if none { 0xffff } else { field };
    bytes[at..at + 2].copy_from_slice(&field.to_be_bytes());
    bytes
}

/// The ones' complement sum, one word after the other.
pub fn sum(bytes: &[u8]) -> u16 {
    bytes.chunks(2).fold(0_u16, |sum, word| {
        let word = u16::from(word[0]) << 8 | u16::from(word.get(1).copied().unwrap_or(0));
        let (sum, carry) = sum.overflowing_add(word);
        sum + u16::from(carry)
    })
}

fn header_length(spec: &Spec) -> usize {
    let fragmented = !matches!(spec.fragment, Fragment::Whole);
    match (spec.v6, spec.options) {
        (false, options) => 20 + if options { 8 } else { 0 },
        (true, options) => 40 + 8 * (usize::from(options) + usize::from(fragmented)),
    }
}

fn ipv4(spec: &Spec, ends: &Ends, protocol: u8, upper: &[u8]) -> Vec<u8> {
    // Router alert, then no operation four times.
    let options: &[u8] = if spec.options {
        &[0x94, 4, 0, 0, 1, 1, 1, 1]
    } else {
        &[]
    };
    let fragment: u16 = match spec.fragment {
        Fragment::Whole => 0x4000,
        Fragment::First { .. } => 0x2000,
        Fragment::Later { .. } => 0x2010,
    };
    let length = 20 + options.len();
    let mut packet = vec![0x40 | (length / 4) as u8, spec.class];
    packet.extend(((length + upper.len()) as u16).to_be_bytes());
    packet.extend(spec.identification.to_be_bytes());
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(&ends.source);
    packet.extend(&ends.destination);
    packet.extend(options);
    let checksum = !sum(&packet);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend(upper);
    packet
}

fn ipv6(spec: &Spec, ends: &Ends, protocol: u8, upper: &[u8]) -> Vec<u8> {
    let mut headers = Vec::new();
    let mut next = protocol;
    let fragment: Option<u16> = match spec.fragment {
        Fragment::Whole => None,
        Fragment::First { .. } => Some(1),
        Fragment::Later { .. } => Some(16 << 3),
    };
    if let Some(fragment) = fragment {
        headers = [&[next, 0], &fragment.to_be_bytes()[..], &[9, 9, 9, 9]].concat();
        next = FRAGMENT;
    }
    if spec.options {
        headers.splice(0..0, [next, 0, 1, 4, 0, 0, 0, 0]);
        next = DESTINATION_OPTIONS;
    }
    let mut packet = vec![0x60 | spec.class >> 4, spec.class << 4, 0, 0];
    packet.extend(((headers.len() + upper.len()) as u16).to_be_bytes());
    packet.extend([next, 64]);
    packet.extend(&ends.source);
    packet.extend(&ends.destination);
    packet.extend(headers);
    packet.extend(upper);
    packet
}

/// Addresses of one machine each.
pub fn address(v6: bool) -> BoxedStrategy<Vec<u8>> {
    let length = if v6 { 15 } else { 3 };
    let first = if v6 { 0xfd_u8 } else { 100 };
    prop::collection::vec(any::<u8>(), length)
        .prop_map(move |rest| [&[first], &rest[..]].concat())
        .boxed()
}

pub fn ends(v6: bool) -> impl Strategy<Value = Ends> {
    let four = (address(v6), address(v6), address(v6), address(v6));
    four.prop_map(
        |(source, destination, quoted_source, quoted_destination)| Ends {
            source,
            destination,
            quoted_source,
            quoted_destination,
        },
    )
}

/// Payloads that are often all zero or all one: where checksums get special.
pub fn payload(most: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 0..most),
        1 => (0..most).prop_map(|length| vec![0; length]),
        1 => (0..most).prop_map(|length| vec![0xff; length]),
    ]
}

pub fn tcp(most: usize) -> impl Strategy<Value = Tcp> {
    let options = prop::collection::vec(Just(1_u8), 0..=10).prop_map(|options| options.repeat(4));
    (any::<u32>(), any::<u8>(), options, payload(most)).prop_map(
        |(sequence, flags, options, payload)| Tcp {
            sequence,
            flags,
            options,
            payload,
        },
    )
}

fn simple(v6: bool) -> impl Strategy<Value = Upper> {
    prop_oneof![
        tcp(100).prop_map(Upper::Tcp),
        (any::<bool>(), payload(100)).prop_map(move |(checksum, payload)| Upper::Udp {
            checksum: checksum || v6,
            payload
        }),
        payload(100).prop_map(|payload| Upper::Echo { payload }),
        payload(100).prop_map(|payload| Upper::Other { payload }),
    ]
}

fn around(v6: bool, upper: impl Strategy<Value = Upper>) -> impl Strategy<Value = Spec> {
    // Fragments but the last have a multiple of eight bytes; here only evenness matters.
    let fragment = prop_oneof![
        3 => Just(Fragment::Whole),
        1 => payload(50).prop_map(|rest| Fragment::First { rest }),
        1 => payload(50).prop_map(|bytes| Fragment::Later { bytes }),
    ];
    (any::<u8>(), any::<u16>(), any::<bool>(), fragment, upper).prop_map(
        move |(class, identification, options, fragment, upper)| {
            let mut spec = Spec {
                v6,
                class,
                identification,
                options,
                fragment,
                upper,
            };
            make_even(&mut spec);
            spec
        },
    )
}

/// A first fragment ends at an even offset, so that its rest sums as it stands.
fn make_even(spec: &mut Spec) {
    if !matches!(spec.fragment, Fragment::First { .. }) {
        return;
    }
    match &mut spec.upper {
        Upper::Tcp(Tcp { payload, .. })
        | Upper::Udp { payload, .. }
        | Upper::Echo { payload }
        | Upper::Other { payload } => payload.truncate(payload.len() / 2 * 2),
        Upper::Error { .. } => spec.fragment = Fragment::Whole,
    }
}

/// Whole TCP and UDP packets: those whose checksum a system leaves to offload.
pub fn offloadable(v6: bool) -> impl Strategy<Value = Spec> {
    let upper = prop_oneof![
        tcp(100).prop_map(Upper::Tcp),
        payload(100).prop_map(|payload| Upper::Udp {
            checksum: true,
            payload
        }),
    ];
    around(v6, upper).prop_map(|spec| Spec {
        fragment: Fragment::Whole,
        ..spec
    })
}

/// Packets of every sort.
pub fn spec(v6: bool) -> BoxedStrategy<Spec> {
    let quoted = around(v6, simple(v6));
    // Nobody cuts through the middle of a checksum.
    let error = (quoted, 0_usize..100).prop_map(|(quoted, half)| Upper::Error {
        quoted: Box::new(quoted),
        cut: 2 * half,
    });
    prop_oneof![
        3 => around(v6, simple(v6)),
        2 => around(v6, error),
    ]
    .boxed()
}
