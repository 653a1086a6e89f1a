//! Networks beyond the peers: which peer leads to an address that is nobody's
//! virtual one, and which addresses beside its own the peer may bear.
//!
//! Both are the same table, read in both directions: a packet comes from a peer
//! with a foreign source only if a packet to that source would go to this peer.
//! Source: docs/protocol.md section 5.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ntmobile_capsule::{Addresses, Dropped, Inner, ends, quoted_ends};

/// An IP network; one of length 0 is the Internet: all addresses that are
/// used once in the world, and no private or virtual one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    length: u8,
}

/// The networks of a node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Networks {
    /// Longest first, each with the virtual address of the peer that leads there.
    beyond: Vec<(Network, IpAddr)>,
    /// Which this node leads to.
    behind: Vec<Network>,
    /// Where the IPv6 addresses lie of the peers that it leads there.
    guests: Option<Network>,
}

/// The addresses to stamp: into a packet, and into the packet it quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamps {
    pub packet: Addresses,
    pub quoted: Addresses,
}

impl Network {
    /// None when `length` is longer than the address.
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        (length <= longest).then_some(Self { address, length })
    }

    /// `host` lies in it.
    pub fn contains(&self, host: IpAddr) -> bool {
        let cut = |bits: u128, width: u32| {
            let kept = u32::from(self.length).min(width);
            bits.checked_shr(width - kept).unwrap_or(0)
        };
        let inside = match (self.address, host) {
            (IpAddr::V4(network), IpAddr::V4(host)) => {
                cut(network.to_bits().into(), 32) == cut(host.to_bits().into(), 32)
            }
            (IpAddr::V6(network), IpAddr::V6(host)) => {
                cut(network.to_bits(), 128) == cut(host.to_bits(), 128)
            }
            _ => false,
        };
        inside && (self.length > 0 || is_global(host))
    }
}

impl Networks {
    pub(crate) fn new(
        mut beyond: Vec<(Network, IpAddr)>,
        behind: Vec<Network>,
        guests: Option<Network>,
    ) -> Self {
        beyond.sort_by_key(|(network, _)| std::cmp::Reverse(network.length));
        Self {
            beyond,
            behind,
            guests,
        }
    }

    /// The virtual address of the peer that leads to `host`.
    pub(crate) fn gateway(&self, host: IpAddr) -> Option<IpAddr> {
        let found = self.beyond.iter().find(|(net, _)| net.contains(host));
        found.map(|&(_, gateway)| gateway)
    }

    /// What to stamp into an arriving packet of the peer of `addresses`:
    /// its foreign source stays if this peer leads there, its foreign
    /// destination if this node does. A foreign one that neither does is
    /// refused, from a peer and at a node that lead anywhere.
    pub(crate) fn judge(
        &self,
        packet: &[u8],
        inner: &Inner,
        addresses: &Addresses,
        is_peer: impl Fn(&IpAddr) -> bool,
    ) -> Result<Stamps, Dropped> {
        let mut stamps = Stamps {
            packet: *addresses,
            quoted: *addresses,
        };
        if self.beyond.is_empty() && self.behind.is_empty() {
            return Ok(stamps);
        }
        let (source, destination) = ends(packet, inner);
        if self.is_beyond(source, addresses) && !is_peer(&source) {
            set_peer(&mut stamps.packet, source);
        } else if self.leads(addresses) && !is_virtual(source) {
            return Err(Dropped::Unpermitted);
        }
        if self.is_behind(destination, addresses) {
            set_own(&mut stamps.packet, destination);
        } else if !self.behind.is_empty() && !is_virtual(destination) {
            return Err(Dropped::Unpermitted);
        }
        if let Some((from, to)) = quoted_ends(packet, inner) {
            if self.is_beyond(to, addresses) && !is_peer(&to) {
                set_peer(&mut stamps.quoted, to);
            }
            if self.is_behind(from, addresses) {
                set_own(&mut stamps.quoted, from);
            }
        }
        Ok(stamps)
    }

    /// This node leads this peer to `host`.
    fn is_behind(&self, host: IpAddr, addresses: &Addresses) -> bool {
        let peer = IpAddr::from(addresses.peer_v6);
        let guest = self.guests.is_some_and(|guests| guests.contains(peer));
        guest && self.behind.iter().any(|network| network.contains(host))
    }

    fn is_beyond(&self, host: IpAddr, addresses: &Addresses) -> bool {
        self.gateway(host)
            .is_some_and(|gateway| is_of(addresses, gateway))
    }

    /// The peer leads to any network.
    fn leads(&self, addresses: &Addresses) -> bool {
        self.beyond
            .iter()
            .any(|&(_, gateway)| is_of(addresses, gateway))
    }
}

fn is_of(addresses: &Addresses, peer: IpAddr) -> bool {
    match peer {
        IpAddr::V4(v4) => v4.octets() == addresses.peer_v4,
        IpAddr::V6(v6) => v6.octets() == addresses.peer_v6,
    }
}

fn set_peer(addresses: &mut Addresses, host: IpAddr) {
    match host {
        IpAddr::V4(v4) => addresses.peer_v4 = v4.octets(),
        IpAddr::V6(v6) => addresses.peer_v6 = v6.octets(),
    }
}

fn set_own(addresses: &mut Addresses, host: IpAddr) {
    match host {
        IpAddr::V4(v4) => addresses.own_v4 = v4.octets(),
        IpAddr::V6(v6) => addresses.own_v6 = v6.octets(),
    }
}

/// It may be a virtual address of anybody's: what a peer calls itself, and us.
fn is_virtual(host: IpAddr) -> bool {
    match host {
        IpAddr::V4(v4) => is_shared(v4) || is_benchmark(v4) || v4.octets()[0] == 10,
        IpAddr::V6(v6) => v6.is_unique_local(),
    }
}

fn is_global(host: IpAddr) -> bool {
    match host {
        IpAddr::V4(v4) => {
            let reserved = v4.octets()[0] == 0 || v4.octets()[0] >= 224;
            let near = v4.is_private() || v4.is_loopback() || v4.is_link_local();
            !(reserved || near || is_shared(v4) || is_benchmark(v4))
        }
        IpAddr::V6(v6) => is_assigned(v6),
    }
}

/// 100.64.0.0/10.
fn is_shared(v4: Ipv4Addr) -> bool {
    v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64
}

/// 198.18.0.0/15.
fn is_benchmark(v4: Ipv4Addr) -> bool {
    v4.octets()[0] == 198 && v4.octets()[1] & 0xfe == 18
}

/// 2000::/3.
fn is_assigned(v6: Ipv6Addr) -> bool {
    v6.segments()[0] >> 13 == 1
}

#[cfg(test)]
mod tests;
