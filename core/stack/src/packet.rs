//! Whose an inner packet is.

use std::net::{IpAddr, SocketAddr};

use ntmobile_capsule::{Fragment, Inner};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const ICMP_ERROR_HEADER: usize = 8;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// Both ends of a connection, seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pair {
    /// This node.
    pub local: SocketAddr,
    /// The peer.
    pub remote: SocketAddr,
}

impl Pair {
    /// Both ends are this node.
    pub(crate) fn is_own(&self) -> bool {
        self.local.ip() == self.remote.ip()
    }
}

/// What a packet is to this stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// A TCP segment.
    Segment {
        pair: Pair,
        /// It opens a connection.
        opens: bool,
        /// It breaks one off.
        resets: bool,
    },
    /// A UDP datagram; where its payload lies.
    Datagram {
        pair: Pair,
        payload: std::ops::Range<usize>,
    },
    /// An error about a packet that left from here.
    Error {
        pair: Pair,
        /// Of TCP, else of UDP.
        tcp: bool,
        error: Error,
    },
    /// A part of something larger.
    Fragment,
    /// Anything else.
    Other,
}

/// What an ICMP error says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Error {
    /// Larger than so many bytes.
    TooBig(u16),
    /// The port answers nobody.
    Port,
    /// Somebody forbids it.
    Prohibited,
    /// There is no way.
    Unreachable,
}

/// Looks at a packet that arrived; none when it is malformed.
pub(crate) fn see(packet: &[u8]) -> Option<Seen> {
    let inner = Inner::parse(packet).ok()?;
    let upper = packet.get(inner.upper..inner.total)?;
    if inner.fragment != Fragment::Whole {
        return Some(Seen::Fragment);
    }
    match inner.protocol {
        TCP => {
            let flags = *upper.get(13)?;
            Some(Seen::Segment {
                pair: arrived(packet, &inner)?,
                opens: flags & (SYN | ACK | RST) == SYN,
                resets: flags & RST != 0,
            })
        }
        UDP => {
            let length = usize::from(u16::from_be_bytes([*upper.get(4)?, *upper.get(5)?]));
            let fits = length >= 8 && length <= upper.len();
            fits.then_some(Seen::Datagram {
                pair: arrived(packet, &inner)?,
                payload: inner.upper + 8..inner.upper + length,
            })
        }
        ICMP if !inner.v6 => Some(error(upper, error_v4(upper))),
        ICMPV6 if inner.v6 => Some(error(upper, error_v6(upper))),
        _ => Some(Seen::Other),
    }
}

fn error(upper: &[u8], error: Option<Error>) -> Seen {
    let about = error.and_then(|error| {
        let quoted = upper.get(ICMP_ERROR_HEADER..)?;
        let inner = Inner::parse_any(quoted).ok()?;
        let tcp = inner.protocol == TCP;
        let known = tcp || inner.protocol == UDP;
        let pair = known.then(|| arrived(quoted, &inner)).flatten()?;
        let pair = Pair {
            local: pair.remote,
            remote: pair.local,
        };
        Some(Seen::Error { pair, tcp, error })
    });
    about.unwrap_or(Seen::Other)
}

fn error_v4(upper: &[u8]) -> Option<Error> {
    match (*upper.first()?, *upper.get(1)?) {
        (3, 4) => Some(Error::TooBig(u16::from_be_bytes([
            *upper.get(6)?,
            *upper.get(7)?,
        ]))),
        (3, 3) => Some(Error::Port),
        (3, 9 | 10 | 13) => Some(Error::Prohibited),
        (3, _) => Some(Error::Unreachable),
        _ => None,
    }
}

fn error_v6(upper: &[u8]) -> Option<Error> {
    match (*upper.first()?, *upper.get(1)?) {
        (2, _) => {
            let size: [u8; 4] = upper.get(4..8)?.try_into().ok()?;
            Some(Error::TooBig(u32::from_be_bytes(size).min(65_535) as u16))
        }
        (1, 4) => Some(Error::Port),
        (1, 1) => Some(Error::Prohibited),
        (1, _) => Some(Error::Unreachable),
        _ => None,
    }
}

/// Who sent a packet to whom; the receiver is here.
fn arrived(packet: &[u8], inner: &Inner) -> Option<Pair> {
    let addresses = packet.get(inner.addresses())?;
    let (source, destination) = addresses.split_at(addresses.len() / 2);
    let ports = packet.get(inner.upper..inner.upper + 4)?;
    let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    Some(Pair {
        local: SocketAddr::new(host(destination)?, port(2)),
        remote: SocketAddr::new(host(source)?, port(0)),
    })
}

pub(crate) fn host(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(v4));
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}
