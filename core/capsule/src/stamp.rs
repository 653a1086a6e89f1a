//! Stamping: the receiver writes the inner addresses itself, so that a peer
//! cannot pretend to be another, and all checksums follow.
//!
//! The tunnel identifies the peer: the source becomes the peer's address as
//! this node knows it, the destination this node's own, in both families.
//! Source: docs/protocol.md section 5.

use crate::checksum::{put, update, update_partial, word};
use crate::icmp;
use crate::inner::{Inner, UDP};

/// The virtual addresses of the two ends of a tunnel, as this end knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Own IPv4 address.
    pub own_v4: [u8; 4],
    /// Own IPv6 address.
    pub own_v6: [u8; 16],
    /// The peer's IPv4 address or its local alias.
    pub peer_v4: [u8; 4],
    /// The peer's IPv6 address or its local alias.
    pub peer_v6: [u8; 16],
}

/// What the upper layer's checksum field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// The checksum.
    Full,
    /// The uncomplemented sum of the pseudo-header: the rest is offloaded.
    Partial,
}

/// The two addresses of a packet, source first; 8 or 32 bytes of `bytes`.
struct Ends {
    bytes: [u8; 32],
    length: usize,
}

impl Addresses {
    /// From the peer to us: what an arriving packet must carry.
    fn arriving(&self, v6: bool) -> Ends {
        if v6 {
            Ends::new(&self.peer_v6, &self.own_v6)
        } else {
            Ends::new(&self.peer_v4, &self.own_v4)
        }
    }

    /// From us to the peer: what a packet quoted in an error must carry.
    fn leaving(&self, v6: bool) -> Ends {
        if v6 {
            Ends::new(&self.own_v6, &self.peer_v6)
        } else {
            Ends::new(&self.own_v4, &self.peer_v4)
        }
    }
}

impl Ends {
    fn new(source: &[u8], destination: &[u8]) -> Self {
        let mut bytes = [0; 32];
        let length = source.len() + destination.len();
        bytes[..source.len()].copy_from_slice(source);
        bytes[source.len()..length].copy_from_slice(destination);
        Self { bytes, length }
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Rewrites the addresses of an arriving packet, and in an ICMP error also
/// those of the quoted packet. `packet` may be only the headers of a
/// super-packet.
pub fn stamp(packet: &mut [u8], inner: &Inner, addresses: &Addresses, checksum: Checksum) {
    stamp_routed(packet, inner, addresses, addresses, checksum);
}

/// The same where the packet that an error quotes bears other addresses than
/// the error: a router on the way sent it.
pub fn stamp_routed(
    packet: &mut [u8],
    inner: &Inner,
    addresses: &Addresses,
    in_quoted: &Addresses,
    checksum: Checksum,
) {
    if let Some(quoted) = icmp::quoted(packet, inner) {
        stamp_quoted(packet, inner, quoted, in_quoted);
    }
    rewrite(packet, inner, &addresses.arriving(inner.v6), checksum);
}

/// Rewrites the packet quoted at `quoted` and lets the error's own checksum follow.
fn stamp_quoted(packet: &mut [u8], error: &Inner, quoted: usize, addresses: &Addresses) {
    let body = &mut packet[quoted..];
    let Ok(inner) = Inner::parse_any(body) else {
        return;
    };
    let ends = addresses.leaving(inner.v6);
    let range = inner.addresses();
    let mut before = [0; 32];
    before[..range.len()].copy_from_slice(&body[range.clone()]);
    let upper_before = inner.checksum(body).map(|at| (at, word(body, at)));
    rewrite(body, &inner, &ends, Checksum::Full);
    let upper_after = upper_before.map(|(at, _)| word(body, at));
    // In IPv4 the header's checksum changed by just what the addresses did.
    let at = error.upper + icmp::CHECKSUM;
    if inner.v6 {
        update(packet, at, &before[..range.len()], ends.as_slice());
    }
    if let (Some((_, old)), Some(new)) = (upper_before, upper_after) {
        update(packet, at, &old.to_be_bytes(), &new.to_be_bytes());
    }
}

fn rewrite(packet: &mut [u8], inner: &Inner, ends: &Ends, checksum: Checksum) {
    let range = inner.addresses();
    let mut before = [0; 32];
    before[..range.len()].copy_from_slice(&packet[range.clone()]);
    let (before, after) = (&before[..range.len()], ends.as_slice());
    packet[range].copy_from_slice(after);
    if !inner.v6 {
        update(packet, 10, before, after);
    }
    let Some(at) = inner.checksum(packet) else {
        return;
    };
    match checksum {
        Checksum::Partial => update_partial(packet, at, before, after),
        Checksum::Full => update_upper(packet, inner, at, before, after),
    }
}

fn update_upper(packet: &mut [u8], inner: &Inner, at: usize, before: &[u8], after: &[u8]) {
    let udp = inner.protocol == UDP;
    if udp && word(packet, at) == 0 {
        return;
    }
    update(packet, at, before, after);
    if udp && word(packet, at) == 0 {
        put(packet, at, 0xffff);
    }
}
