//! The device that smoltcp sees: at most one packet that arrived, and the
//! packets that leave, super-packets among them.
//!
//! smoltcp 0.14 drops IPv6 super-packets. So a connection over IPv6 is one over
//! IPv4 to smoltcp, between addresses that mean nothing; TCP is the same.
//!
//! After a retransmission time-out smoltcp 0.14 acknowledges with a sequence
//! number behind what it had sent. The peer finds that outside its window and
//! ignores the acknowledgement; when both ends do so, neither gets out of it.
//! So an empty segment leaves with the newest number, as RFC 9293 section
//! 3.10.7.4 has it (SND.NXT).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;

use ntmobile_capsule::checksum::{pseudo, put};
use ntmobile_capsule::{Inner, Kind, Super};
use ntmobile_tunnel::Left;
use smoltcp::phy::{
    Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, PacketMeta, RxToken,
    TxToken,
};
use smoltcp::time::Instant;

use crate::packet::Pair;

const NEAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const TCP_HEADER: usize = 20;
const HOPS: u8 = 64;
const TCP: u8 = 6;
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const TCP_CHECKSUM: u8 = 16;
/// The longest super-packet, headers and all.
const LONGEST: NonZeroUsize = NonZeroUsize::new(65_000).expect("it is not zero");

/// A packet that leaves, and what is left to do on it.
#[derive(Clone, Debug)]
pub(crate) struct Leaving {
    /// Shared with who keeps it until it is acknowledged.
    pub bytes: Arc<Vec<u8>>,
    pub left: Left,
}

impl Leaving {
    pub(crate) fn new(bytes: Vec<u8>, left: Left) -> Self {
        let bytes = Arc::new(bytes);
        Self { bytes, left }
    }
}

/// The ends of a connection over IPv6: this node's, the peer's.
type Ends = [Ipv6Addr; 2];

/// See the module.
#[derive(Debug)]
pub(crate) struct Wire {
    mtu: usize,
    /// Of a connection that smoltcp takes for one over IPv4.
    disguised: Option<Ends>,
    /// The sequence number behind all that was sent.
    newest: Option<u32>,
    /// The one behind what was sent last; after a time-out that is older.
    latest: u32,
    arrived: Option<Vec<u8>>,
    leaving: Vec<Leaving>,
}

pub(crate) struct Rx(Vec<u8>);

pub(crate) struct Tx<'a> {
    disguised: Option<Ends>,
    newest: &'a mut Option<u32>,
    latest: &'a mut u32,
    leaving: &'a mut Vec<Leaving>,
    size: Option<u16>,
}

impl Wire {
    /// A device whose packets have at most `mtu` bytes, for anybody.
    pub(crate) fn new(mtu: usize) -> Self {
        Self {
            mtu,
            disguised: None,
            newest: None,
            latest: 0,
            arrived: None,
            leaving: Vec::new(),
        }
    }

    /// One for a single connection, and the ends that smoltcp knows it by.
    pub(crate) fn of(pair: Pair, mtu: usize) -> (Self, Pair) {
        let mut wire = Self::new(mtu);
        let (IpAddr::V6(local), IpAddr::V6(remote)) = (pair.local.ip(), pair.remote.ip()) else {
            return (wire, pair);
        };
        wire.disguised = Some([local, remote]);
        let known = Pair {
            local: SocketAddr::new(NEAR.into(), pair.local.port()),
            remote: SocketAddr::new(FAR.into(), pair.remote.port()),
        };
        (wire, known)
    }

    /// The next poll finds `packet`, a whole one.
    pub(crate) fn put(&mut self, packet: Vec<u8>) {
        self.arrived = match self.disguised {
            Some(_) => disguise(&packet),
            None => Some(packet),
        };
    }

    /// The next poll finds `packet`, of a connection as smoltcp knows it.
    pub(crate) fn put_known(&mut self, packet: Vec<u8>) {
        self.arrived = Some(packet);
    }

    /// The sequence numbers behind all that was sent, and behind what was sent last.
    pub(crate) fn sent(&self) -> Option<[u32; 2]> {
        self.newest.map(|newest| [newest, self.latest])
    }

    /// What one segment holds at most.
    pub(crate) fn segment(&self) -> usize {
        let headers = self.disguised.map_or(IPV4_HEADER, |_| IPV6_HEADER) + TCP_HEADER;
        self.mtu.saturating_sub(headers)
    }

    pub(crate) fn set_mtu(&mut self, mtu: usize) {
        self.mtu = mtu;
    }

    pub(crate) fn mtu(&self) -> usize {
        self.mtu
    }

    fn tx(&mut self) -> Tx<'_> {
        Tx {
            disguised: self.disguised,
            newest: &mut self.newest,
            latest: &mut self.latest,
            leaving: &mut self.leaving,
            size: None,
        }
    }

    /// What smoltcp has sent.
    pub(crate) fn take(&mut self) -> std::vec::Drain<'_, Leaving> {
        self.leaving.drain(..)
    }
}

impl Device for Wire {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Rx, Tx<'_>)> {
        let packet = self.arrived.take()?;
        Some((Rx(packet), self.tx()))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Tx<'_>> {
        Some(self.tx())
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        let header = self.disguised.map_or(0, |_| IPV6_HEADER - IPV4_HEADER);
        capabilities.max_transmission_unit = self.mtu - header;
        // What arrives was sealed by the peer: a capsule opens whole or not at all.
        let mut checksum = ChecksumCapabilities::ignored();
        checksum.ipv4 = Checksum::Tx;
        checksum.udp = Checksum::Tx;
        checksum.icmpv4 = Checksum::Tx;
        checksum.icmpv6 = Checksum::Tx;
        capabilities.checksum = checksum;
        capabilities.segmentation.tcpv4 = Some(LONGEST);
        capabilities
    }
}

impl RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(&self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let more = self.disguised.map_or(0, |_| IPV6_HEADER - IPV4_HEADER);
        let mut bytes = vec![0; more + length];
        let result = write(&mut bytes[more..]);
        if let Some(ends) = self.disguised {
            undisguise(&mut bytes, ends);
        }
        let left = leave(&mut bytes, self.size, self.newest, self.latest);
        self.leaving.push(Leaving::new(bytes, left));
        result
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.size = meta.segmentation_offload_size.map(u16::from);
    }
}

/// The IPv4 packet of the TCP segment in an IPv6 packet; none when it is none.
fn disguise(packet: &[u8]) -> Option<Vec<u8>> {
    let inner = Inner::parse(packet).ok()?;
    let segment = &packet[inner.upper..inner.total];
    let mut disguised = Vec::with_capacity(IPV4_HEADER + segment.len());
    disguised.extend_from_slice(&[0x45, 0, 0, 0, 0, 0, 0, 0, HOPS, TCP, 0, 0]);
    disguised.extend_from_slice(&FAR.octets());
    disguised.extend_from_slice(&NEAR.octets());
    disguised.extend_from_slice(segment);
    // A super-packet over IPv6 may be longer than one over IPv4 can be.
    let total = u16::try_from(disguised.len()).ok()?;
    put(&mut disguised, 2, total);
    Some(disguised)
}

/// Writes an IPv6 header before the segment in `packet`, which has room for it.
fn undisguise(packet: &mut [u8], [local, remote]: Ends) {
    let length = packet.len() - IPV6_HEADER;
    packet[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 0, TCP, HOPS]);
    put(packet, 4, length as u16);
    packet[8..24].copy_from_slice(&local.octets());
    packet[24..40].copy_from_slice(&remote.octets());
}

/// Leaves TCP's checksum to who seals the packet, as systems leave it to the
/// network device; `size` is what a super-packet is to be cut into.
fn leave(packet: &mut [u8], size: Option<u16>, newest: &mut Option<u32>, latest: &mut u32) -> Left {
    let Ok(inner) = Inner::parse(packet) else {
        return Left::Nothing;
    };
    if inner.protocol != TCP {
        return Left::Nothing;
    }
    number(&mut packet[inner.upper..inner.total], newest, latest);
    let sum = pseudo(&packet[inner.addresses()], TCP, inner.total - inner.upper);
    put(packet, inner.upper + usize::from(TCP_CHECKSUM), sum.fold());
    let kind = if inner.v6 { Kind::TcpV6 } else { Kind::TcpV4 };
    let whole = size.and_then(|size| Super::new(packet, kind, false, inner.upper, size));
    whole.map_or(
        Left::Checksum {
            start: inner.upper as u16,
            offset: u16::from(TCP_CHECKSUM),
        },
        Left::Segments,
    )
}

/// Gives an empty segment the newest sequence number; notes those of others. A reset counts for
/// nothing and stays as it is.
fn number(segment: &mut [u8], newest: &mut Option<u32>, latest: &mut u32) {
    let Some((head, rest)) = segment.split_first_chunk_mut::<20>() else {
        return;
    };
    let flags = head[13];
    if flags & RST != 0 {
        // It bears a number of whom it answers, perhaps of an older connection's peer.
        return;
    }
    let options = usize::from(head[12] >> 4) * 4 - head.len();
    let [.., s0, s1, s2, s3] = *head.first_chunk::<8>().expect("the head is longer");
    let sequence = u32::from_be_bytes([s0, s1, s2, s3]);
    let length = (rest.len() - options) as u32 + u32::from(flags & (SYN | FIN) != 0);
    let end = sequence.wrapping_add(length);
    let known = newest.unwrap_or(end);
    if length > 0 {
        *latest = end;
    }
    let behind = (end.wrapping_sub(known) as i32) < 0;
    if !behind {
        *newest = Some(end);
    } else if length == 0 {
        head[4..8].copy_from_slice(&known.to_be_bytes());
    }
}
