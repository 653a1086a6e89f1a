//! Segments of a super-packet, the large packet that segmentation offload
//! hands over. Each travels in a capsule of its own, as
//!
//! `payload | the super-packet's IP and TCP or UDP headers | trailer`
//!
//! so that the receiver, opening one after the other into one buffer, has the
//! payload of the super-packet rebuilt without moving a byte. Trailer, 8 bytes,
//! big-endian:
//!
//! | at | size | field |
//! |---|---|---|
//! | 0 | 2 | number of the segment; top bit: the last one |
//! | 2 | 2 | payload of each segment but the last, in bytes |
//! | 4 | 1 | length of the headers |
//! | 5 | 1 | where TCP or UDP begins |
//! | 6 | 1 | kind: 1 TCP over IPv4, 4 TCP over IPv6, 5 UDP; top bit: ECN |
//! | 7 | 1 | serial number of the super-packet |
//!
//! Source: docs/protocol.md section 4.

use crate::checksum::{finish, finish_ipv4, pseudo, put, word};
use crate::inner::{Dropped, Fragment, Inner, TCP, UDP};

/// Size of the trailer in bytes.
pub const TRAILER: usize = 8;

const LAST: u16 = 0x8000;
const ECN: u8 = 0x80;
const UDP_HEADER: usize = 8;
const TCP_HEADER: usize = 20;
const FIN_AND_PUSH: u8 = 0x09;
const CONGESTION_REDUCED: u8 = 0x80;

/// What a super-packet is; the numbers are those of virtio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// TCP over IPv4.
    TcpV4 = 1,
    /// TCP over IPv6.
    TcpV6 = 4,
    /// UDP over either: datagrams of one size.
    Udp = 5,
}

/// A super-packet that this end cuts up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Super {
    /// What it is.
    pub kind: Kind,
    /// Only its first segment carries TCP's CWR flag.
    pub ecn: bool,
    /// Where TCP or UDP begins, in bytes.
    pub upper: u8,
    /// Length of all headers, in bytes.
    pub headers: u8,
    /// Payload of each segment but the last, in bytes.
    pub size: u16,
}

/// What the trailer of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// The super-packet.
    pub whole: Super,
    /// Number of the segment in it.
    pub index: u16,
    /// No segment comes behind it.
    pub last: bool,
    /// Tells neighbouring super-packets apart.
    pub serial: u8,
}

/// The headers of a super-packet as its segments carry them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Template<'a> {
    /// The headers, `whole.headers` bytes.
    pub headers: &'a [u8],
    /// The payload of the one segment.
    pub payload: &'a [u8],
    /// What its trailer says.
    pub trailer: Trailer,
}

/// Which segments of a super-packet there are: consecutive ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Number of the first.
    pub first: u16,
    /// Payload of all together, in bytes.
    pub payload: usize,
    /// The last one of the super-packet is among them.
    pub last: bool,
}

impl Kind {
    fn new(number: u8) -> Option<Self> {
        [Self::TcpV4, Self::TcpV6, Self::Udp]
            .into_iter()
            .find(|kind| *kind as u8 == number)
    }

    fn protocol(self) -> u8 {
        match self {
            Self::TcpV4 | Self::TcpV6 => TCP,
            Self::Udp => UDP,
        }
    }

    /// Where its checksum lies in the TCP or UDP header.
    pub fn checksum(self) -> u8 {
        match self {
            Self::TcpV4 | Self::TcpV6 => 16,
            Self::Udp => 6,
        }
    }
}

impl Super {
    /// A super-packet of `kind` whose TCP or UDP header begins at `upper` and
    /// which is cut every `size` bytes; none when `packet` is not that.
    pub fn new(packet: &[u8], kind: Kind, ecn: bool, upper: usize, size: u16) -> Option<Self> {
        let length = match kind {
            Kind::Udp => UDP_HEADER,
            Kind::TcpV4 | Kind::TcpV6 => usize::from(packet.get(upper + 12)? >> 4) * 4,
        };
        let whole = Self {
            kind,
            ecn,
            upper: u8::try_from(upper).ok()?,
            headers: u8::try_from(upper + length).ok()?,
            size,
        };
        let fits = size > 0 && packet.len() > usize::from(whole.headers);
        (fits && whole.matches(packet)).then_some(whole)
    }

    /// How many segments `packet` has.
    pub fn count(&self, packet: &[u8]) -> usize {
        (packet.len() - usize::from(self.headers)).div_ceil(usize::from(self.size))
    }

    /// Length of a segment's capsule content but the last's, in bytes.
    pub fn stride(&self) -> usize {
        usize::from(self.size) + usize::from(self.headers) + TRAILER
    }

    /// Writes the content of segment `index` of `packet` into the front of
    /// `content` and returns its length.
    pub fn write(&self, packet: &[u8], index: usize, serial: u8, content: &mut [u8]) -> usize {
        let (headers, payload) = packet.split_at(usize::from(self.headers));
        let from = index * usize::from(self.size);
        let to = payload.len().min(from + usize::from(self.size));
        let trailer = Trailer {
            whole: *self,
            index: index as u16,
            last: to == payload.len(),
            serial,
        };
        let (body, rest) = content.split_at_mut(to - from);
        body.copy_from_slice(&payload[from..to]);
        let (template, rest) = rest.split_at_mut(headers.len());
        template.copy_from_slice(headers);
        rest[..TRAILER].copy_from_slice(&trailer.encode());
        to - from + headers.len() + TRAILER
    }

    /// Makes `headers`, already stamped, those of the consecutive segments
    /// `slice`: a super-packet again, its checksum partial.
    pub fn narrow(&self, headers: &mut [u8], slice: &Slice) {
        let upper = usize::from(self.upper);
        let total = headers.len() + slice.payload;
        let v6 = headers[0] >> 4 == 6;
        if v6 {
            put(headers, 4, (total - 40) as u16);
        } else {
            put(headers, 2, total as u16);
            let identification = word(headers, 4).wrapping_add(slice.first);
            put(headers, 4, identification);
            finish_ipv4(&mut headers[..upper]);
        }
        match self.kind {
            Kind::Udp => put(headers, upper + 4, (total - upper) as u16),
            Kind::TcpV4 | Kind::TcpV6 => self.narrow_tcp(&mut headers[upper..], slice),
        }
        let addresses = if v6 { 8..40 } else { 12..20 };
        let sum = pseudo(&headers[addresses], self.kind.protocol(), total - upper);
        put(
            headers,
            upper + usize::from(self.kind.checksum()),
            sum.fold(),
        );
    }

    /// Finishes the checksum of `packet`, narrowed to one segment.
    pub fn finish(&self, packet: &mut [u8]) {
        let at = usize::from(self.kind.checksum());
        let udp = self.kind == Kind::Udp;
        finish(&mut packet[usize::from(self.upper)..], at, udp);
    }

    fn narrow_tcp(&self, tcp: &mut [u8], slice: &Slice) {
        let before = u32::from(slice.first) * u32::from(self.size);
        let sequence = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]).wrapping_add(before);
        tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
        if !slice.last {
            tcp[13] &= !FIN_AND_PUSH;
        }
        if slice.first > 0 {
            tcp[13] &= !CONGESTION_REDUCED;
        }
    }

    /// The headers in front of `packet` are what this says they are.
    fn matches(&self, packet: &[u8]) -> bool {
        let Ok(inner) = Inner::parse_any(packet) else {
            return false;
        };
        let upper = usize::from(self.upper);
        let length = usize::from(self.headers).saturating_sub(upper);
        let header = match self.kind {
            Kind::Udp => length == UDP_HEADER,
            Kind::TcpV4 | Kind::TcpV6 => {
                length >= TCP_HEADER
                    && packet
                        .get(upper + 12)
                        .map(|offset| usize::from(offset >> 4) * 4)
                        == Some(length)
            }
        };
        let family = match self.kind {
            Kind::TcpV4 => !inner.v6,
            Kind::TcpV6 => inner.v6,
            Kind::Udp => true,
        };
        header
            && family
            && inner.upper == upper
            && inner.protocol == self.kind.protocol()
            && inner.fragment == Fragment::Whole
    }
}

impl Trailer {
    fn encode(&self) -> [u8; TRAILER] {
        let index = self.index | if self.last { LAST } else { 0 };
        let [i0, i1] = index.to_be_bytes();
        let [s0, s1] = self.whole.size.to_be_bytes();
        let kind = self.whole.kind as u8 | if self.whole.ecn { ECN } else { 0 };
        let (headers, upper) = (self.whole.headers, self.whole.upper);
        [i0, i1, s0, s1, headers, upper, kind, self.serial]
    }

    fn decode(bytes: [u8; TRAILER]) -> Option<Self> {
        let [i0, i1, s0, s1, headers, upper, kind, serial] = bytes;
        let index = u16::from_be_bytes([i0, i1]);
        Some(Self {
            whole: Super {
                kind: Kind::new(kind & !ECN)?,
                ecn: kind & ECN != 0,
                upper,
                headers,
                size: u16::from_be_bytes([s0, s1]),
            },
            index: index & !LAST,
            last: index & LAST != 0,
            serial,
        })
    }
}

impl<'a> Template<'a> {
    /// Takes the content of a segment's capsule apart; refuses what is no
    /// segment or what a tunnel does not carry.
    pub fn parse(content: &'a [u8]) -> Result<Self, Dropped> {
        let (rest, trailer) = content
            .split_last_chunk::<TRAILER>()
            .ok_or(Dropped::Malformed)?;
        let trailer = Trailer::decode(*trailer).ok_or(Dropped::Malformed)?;
        let payload = rest
            .len()
            .checked_sub(usize::from(trailer.whole.headers))
            .ok_or(Dropped::Malformed)?;
        let (payload, headers) = rest.split_at(payload);
        if !trailer.fits(payload.len()) || !trailer.whole.matches(headers) {
            return Err(Dropped::Malformed);
        }
        Ok(Self {
            headers,
            payload,
            trailer,
        })
    }

    /// This segment comes right behind `previous`, whose headers were `headers`.
    pub fn follows(&self, previous: &Trailer, headers: &[u8]) -> bool {
        let expected = Trailer {
            index: previous.index.wrapping_add(1),
            last: self.trailer.last,
            ..*previous
        };
        !previous.last && self.trailer == expected && self.headers == headers
    }
}

impl Trailer {
    fn fits(&self, payload: usize) -> bool {
        let size = usize::from(self.whole.size);
        let full = payload == size || (self.last && payload < size);
        let end = usize::from(self.index) * size + payload + usize::from(self.whole.headers);
        full && payload > 0 && end <= usize::from(u16::MAX) + 1
    }
}
