//! A look at an inner packet: where its parts lie, and whether a tunnel
//! carries such a packet at all.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::checksum::word;

pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;
const DCCP: u8 = 33;
const UDPLITE: u8 = 136;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

pub(crate) const IPV4_HEADER: usize = 20;
pub(crate) const IPV6_HEADER: usize = 40;
const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;

/// Why a tunnel does not carry a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// Shorter than its headers say, or neither IPv4 nor IPv6.
    Malformed,
    /// A source or destination of more than one machine.
    Multicast,
    /// The address of everyone here.
    Broadcast,
    /// A source or destination that only counts on one link, or on none.
    LinkLocal,
    /// It names its own way.
    SourceRoute,
    /// From or to a network that the peer, or this node, does not lead to.
    Unpermitted,
    /// The path marked congestion on a packet that cannot say so (RFC 6040).
    Congestion,
}

impl Dropped {
    /// Its name in the counters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "inner_malformed",
            Self::Multicast => "inner_multicast",
            Self::Broadcast => "inner_broadcast",
            Self::LinkLocal => "inner_link_local",
            Self::SourceRoute => "inner_source_route",
            Self::Unpermitted => "inner_unpermitted",
            Self::Congestion => "inner_congestion",
        }
    }
}

/// Which part of a datagram a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// All of it.
    Whole,
    /// The first fragment: it has the upper layer's header.
    First,
    /// A later one: nothing but payload.
    Later,
}

/// Where the parts of a packet lie. The packet may be longer than `total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inner {
    /// IPv6, else IPv4.
    pub v6: bool,
    /// Where the upper layer begins.
    pub upper: usize,
    /// The upper layer's protocol number.
    pub protocol: u8,
    /// Which part of a datagram it is.
    pub fragment: Fragment,
    /// Length of the packet by its own header.
    pub total: usize,
}

impl Inner {
    /// Parses the headers of `packet` and refuses what a tunnel does not carry.
    pub fn parse(packet: &[u8]) -> Result<Self, Dropped> {
        let inner = Self::parse_headers(packet)?;
        if inner.total > packet.len() {
            return Err(Dropped::Malformed);
        }
        Ok(inner)
    }

    /// The same for the headers of a super-packet, without its payload.
    pub fn parse_headers(packet: &[u8]) -> Result<Self, Dropped> {
        let inner = Self::parse_any(packet)?;
        inner.refuse_addresses(packet)?;
        Ok(inner)
    }

    /// Parses the headers of a packet that may be cut off behind them, as one
    /// quoted in an ICMP error is.
    pub fn parse_any(packet: &[u8]) -> Result<Self, Dropped> {
        match packet.first().map(|first| first >> 4) {
            Some(4) => parse_ipv4(packet),
            Some(6) => parse_ipv6(packet),
            _ => Err(Dropped::Malformed),
        }
    }

    /// Where the addresses lie: the source, right behind it the destination.
    pub fn addresses(&self) -> std::ops::Range<usize> {
        if self.v6 { 8..40 } else { 12..20 }
    }

    /// Offset of the upper layer's checksum if it covers the addresses and the
    /// packet holds it.
    pub fn checksum(&self, packet: &[u8]) -> Option<usize> {
        if self.fragment == Fragment::Later {
            return None;
        }
        let at = self.upper + checksum_offset(self.protocol, self.v6)?;
        (at + 2 <= packet.len()).then_some(at)
    }

    /// Systems leave its checksum to offload: TCP or UDP, all of it.
    pub fn is_offloadable(&self) -> bool {
        matches!(self.protocol, TCP | UDP) && self.fragment == Fragment::Whole
    }

    /// A number that packets of one flow share.
    pub fn flow(&self, packet: &[u8]) -> u32 {
        let ports = match self.protocol {
            TCP | UDP | UDPLITE | DCCP if self.fragment == Fragment::Whole => {
                packet.get(self.upper..self.upper + 4)
            }
            _ => None,
        };
        let mix = |hash: u64, piece: &[u8]| {
            let value = piece
                .iter()
                .fold(0, |value, byte| value << 8 | u64::from(*byte));
            (hash ^ value)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(29)
        };
        let seed = u64::from(self.protocol);
        let hash = packet[self.addresses()].chunks(8).fold(seed, mix);
        (mix(hash, ports.unwrap_or_default()) >> 32) as u32
    }

    fn refuse_addresses(&self, packet: &[u8]) -> Result<(), Dropped> {
        let addresses = &packet[self.addresses()];
        let (source, destination) = addresses.split_at(addresses.len() / 2);
        refuse_address(source)?;
        refuse_address(destination)
    }
}

/// Source and destination of a packet that `inner` was parsed from.
///
/// # Panics
/// If `packet` is shorter than its header.
pub fn ends(packet: &[u8], inner: &Inner) -> (IpAddr, IpAddr) {
    let bytes = &packet[inner.addresses()];
    let (source, destination) = bytes.split_at(bytes.len() / 2);
    let whole = |half| address(half).expect("a header holds two addresses");
    (whole(source), whole(destination))
}

/// Source and destination of the packet that an ICMP error quotes.
pub fn quoted_ends(packet: &[u8], error: &Inner) -> Option<(IpAddr, IpAddr)> {
    let quoted = packet.get(crate::icmp::quoted(packet, error)?..)?;
    let inner = Inner::parse_any(quoted).ok()?;
    Some(ends(quoted, &inner))
}

/// Where `packet` wants to go; none when it is too short to say.
pub fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => address(packet.get(16..20)?),
        6 => address(packet.get(24..40)?),
        _ => None,
    }
}

fn checksum_offset(protocol: u8, v6: bool) -> Option<usize> {
    match protocol {
        TCP => Some(16),
        UDP | UDPLITE | DCCP => Some(6),
        ICMPV6 if v6 => Some(2),
        _ => None,
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(v4).into());
    }
    let v6 = <[u8; 16]>::try_from(bytes).ok()?;
    Some(Ipv6Addr::from(v6).into())
}

fn refuse_address(bytes: &[u8]) -> Result<(), Dropped> {
    match address(bytes).ok_or(Dropped::Malformed)? {
        IpAddr::V4(v4) if v4.is_broadcast() => Err(Dropped::Broadcast),
        IpAddr::V4(v4) if v4.is_link_local() => Err(Dropped::LinkLocal),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Err(Dropped::LinkLocal),
        any if any.is_multicast() => Err(Dropped::Multicast),
        any if any.is_loopback() || any.is_unspecified() => Err(Dropped::LinkLocal),
        _ => Ok(()),
    }
}

fn parse_ipv4(packet: &[u8]) -> Result<Inner, Dropped> {
    let upper = usize::from(packet[0] & 0x0f) * 4;
    if upper < IPV4_HEADER || packet.len() < upper {
        return Err(Dropped::Malformed);
    }
    let total = usize::from(word(packet, 2));
    if total < upper {
        return Err(Dropped::Malformed);
    }
    refuse_options(&packet[IPV4_HEADER..upper])?;
    let fragment = word(packet, 6);
    Ok(Inner {
        v6: false,
        upper,
        protocol: packet[9],
        fragment: part(fragment & 0x1fff, fragment & 0x2000 != 0),
        total,
    })
}

/// Walks the options of an IPv4 header.
fn refuse_options(mut options: &[u8]) -> Result<(), Dropped> {
    while let Some((&kind, rest)) = options.split_first() {
        options = match kind {
            0 => return Ok(()),
            1 => rest,
            LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => return Err(Dropped::SourceRoute),
            _ => {
                let length = rest.first().map_or(0, |&length| usize::from(length));
                let fits = length >= 2 && length <= options.len();
                options
                    .get(length..)
                    .filter(|_| fits)
                    .ok_or(Dropped::Malformed)?
            }
        };
    }
    Ok(())
}

fn parse_ipv6(packet: &[u8]) -> Result<Inner, Dropped> {
    if packet.len() < IPV6_HEADER {
        return Err(Dropped::Malformed);
    }
    let mut inner = Inner {
        v6: true,
        upper: IPV6_HEADER,
        protocol: packet[6],
        fragment: Fragment::Whole,
        total: IPV6_HEADER + usize::from(word(packet, 4)),
    };
    // Each header makes the rest shorter, so this ends.
    while inner.fragment != Fragment::Later {
        let header = packet.get(inner.upper..inner.upper + 8);
        match inner.protocol {
            ROUTING => return Err(Dropped::SourceRoute),
            HOP_BY_HOP | DESTINATION_OPTIONS => {
                let header = header.ok_or(Dropped::Malformed)?;
                inner.protocol = header[0];
                inner.upper += 8 + usize::from(header[1]) * 8;
            }
            FRAGMENT => {
                let header = header.ok_or(Dropped::Malformed)?;
                inner.protocol = header[0];
                inner.upper += 8;
                inner.fragment = part(word(header, 2) >> 3, header[3] & 1 != 0);
            }
            _ => break,
        }
    }
    if inner.upper > packet.len() || inner.upper > inner.total {
        return Err(Dropped::Malformed);
    }
    Ok(inner)
}

fn part(offset: u16, more: bool) -> Fragment {
    match (offset, more) {
        (0, false) => Fragment::Whole,
        (0, true) => Fragment::First,
        _ => Fragment::Later,
    }
}
