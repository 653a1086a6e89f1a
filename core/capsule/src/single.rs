//! Packets that came one by one although they are neighbours in one stream:
//! a device with offload takes them faster as one super-packet.

use crate::checksum::{Sum, pseudo, word};
use crate::inner::{Fragment, IPV4_HEADER, IPV6_HEADER, Inner, TCP, UDP};
use crate::segment::{Kind, Super};
use crate::stamp::Checksum;

const ACK: u8 = 0x10;
const PUSH: u8 = 0x08;
const DO_NOT_FRAGMENT: u8 = 0x40;
/// Longest headers considered: IPv6 and TCP with all options.
const LONGEST_HEADERS: usize = 100;
/// What every kernel takes as one super-packet of UDP.
const MOST: usize = 64;

/// A TCP or UDP packet with payload and without anything unusual in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Single {
    whole: Super,
    total: usize,
    push: bool,
}

/// Singles in a row.
#[derive(Clone, Debug)]
pub struct Row {
    whole: Super,
    /// The first one's headers, without what differs from packet to packet.
    likeness: [u8; LONGEST_HEADERS],
    sequence: u32,
    identification: Option<u16>,
    count: usize,
    payload: usize,
    /// The last one was shorter, or pushes: no other may follow.
    ended: bool,
    push: bool,
}

impl Single {
    /// `packet` as a single; none when it cannot be part of a super-packet, be it
    /// because its checksum is wrong.
    pub fn new(packet: &[u8], inner: &Inner, checksum: Checksum) -> Option<Self> {
        let base = if inner.v6 { IPV6_HEADER } else { IPV4_HEADER };
        if inner.upper != base || inner.fragment != Fragment::Whole {
            return None;
        }
        let kind = kind(packet, inner)?;
        let headers = base + upper_length(packet, inner)?;
        let size = u16::try_from(inner.total.checked_sub(headers)?).ok()?;
        let whole = Super::new(&packet[..inner.total], kind, false, base, size)?;
        if checksum == Checksum::Full && !is_right(packet, inner) {
            return None;
        }
        Some(Self {
            whole,
            total: inner.total,
            push: kind != Kind::Udp && packet[base + 13] & PUSH != 0,
        })
    }

    /// The super-packet that this one alone would be.
    pub fn whole(&self) -> Super {
        self.whole
    }

    /// Where the payload lies in the packet.
    pub fn payload(&self) -> std::ops::Range<usize> {
        usize::from(self.whole.headers)..self.total
    }
}

impl Row {
    /// A row of `single` alone, which is `packet`.
    pub fn new(single: &Single, packet: &[u8]) -> Self {
        let varying = Varying::of(single, packet);
        Self {
            whole: single.whole,
            likeness: likeness(single, packet),
            sequence: varying.sequence,
            identification: varying.identification,
            count: 1,
            payload: usize::from(single.whole.size),
            ended: single.push,
            push: single.push,
        }
    }

    /// Adds `single`, which is `packet`, if it comes right behind the others.
    pub fn takes(&mut self, single: &Single, packet: &[u8]) -> bool {
        let varying = Varying::of(single, packet);
        let size = single.whole.size;
        let alike = Super { size, ..self.whole } == single.whole
            && size <= self.whole.size
            && self.likeness == likeness(single, packet);
        let next = varying.sequence == self.sequence.wrapping_add(self.payload as u32)
            || self.whole.kind == Kind::Udp;
        let numbered = match (self.identification, varying.identification) {
            (None, None) => true,
            (Some(first), Some(this)) => this == first.wrapping_add(self.count as u16),
            _ => false,
        };
        let total = self.payload + usize::from(self.whole.headers) + usize::from(size);
        let fits = self.count < MOST && total <= usize::from(u16::MAX);
        if self.ended || !alike || !next || !numbered || !fits {
            return false;
        }
        self.count += 1;
        self.payload += usize::from(size);
        self.push = single.push;
        self.ended = single.push || size < self.whole.size;
        true
    }

    /// No other packet may follow.
    pub fn is_complete(&self) -> bool {
        self.ended || self.count == MOST
    }

    /// What the row is.
    pub fn whole(&self) -> Super {
        self.whole
    }

    /// Gives the first one's `headers` what the last one says.
    pub fn close(&self, headers: &mut [u8]) {
        if self.push {
            headers[usize::from(self.whole.upper) + 13] |= PUSH;
        }
    }
}

/// What differs between neighbours.
struct Varying {
    sequence: u32,
    /// Only where it counts: a packet that must not be cut needs none (RFC 6864).
    identification: Option<u16>,
}

impl Varying {
    fn of(single: &Single, packet: &[u8]) -> Self {
        let upper = usize::from(single.whole.upper);
        let high = u32::from(word(packet, upper + 4));
        let counts = upper == IPV4_HEADER && packet[6] & DO_NOT_FRAGMENT == 0;
        Self {
            sequence: high << 16 | u32::from(word(packet, upper + 6)),
            identification: counts.then(|| word(packet, 4)),
        }
    }
}

/// The headers with all that may differ set to zero.
fn likeness(single: &Single, packet: &[u8]) -> [u8; LONGEST_HEADERS] {
    let (upper, headers) = (
        usize::from(single.whole.upper),
        usize::from(single.whole.headers),
    );
    let mut likeness = [0; LONGEST_HEADERS];
    likeness[..headers].copy_from_slice(&packet[..headers]);
    // Lengths, identification and header checksum.
    if upper == IPV4_HEADER {
        likeness[2..6].fill(0);
        likeness[10..12].fill(0);
    } else {
        likeness[4..6].fill(0);
    }
    // UDP's length and checksum, or TCP's sequence number and checksum.
    likeness[upper + 4..upper + 8].fill(0);
    if single.whole.kind != Kind::Udp {
        likeness[upper + 13] &= !PUSH;
        likeness[upper + 16..upper + 18].fill(0);
    }
    likeness
}

fn kind(packet: &[u8], inner: &Inner) -> Option<Kind> {
    match inner.protocol {
        // A checksum of zero means none, which a super-packet cannot say.
        UDP if packet.get(inner.upper + 6..inner.upper + 8)? != [0, 0] => Some(Kind::Udp),
        TCP if packet.get(inner.upper + 13)? & !PUSH == ACK => {
            Some(if inner.v6 { Kind::TcpV6 } else { Kind::TcpV4 })
        }
        _ => None,
    }
}

fn upper_length(packet: &[u8], inner: &Inner) -> Option<usize> {
    if inner.protocol == UDP {
        return Some(8);
    }
    Some(usize::from(packet.get(inner.upper + 12)? >> 4) * 4)
}

fn is_right(packet: &[u8], inner: &Inner) -> bool {
    let upper = &packet[inner.upper..inner.total];
    let pseudo: Sum = pseudo(&packet[inner.addresses()], inner.protocol, upper.len());
    pseudo.with(upper).fold() == 0xffff
}
