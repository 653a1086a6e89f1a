//! One UDP port.

use std::collections::VecDeque;
use std::net::SocketAddr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpAddress, IpProtocol, IpRepr, UdpPacket, UdpRepr};

use crate::failure::Failure;
use crate::packet::Pair;

const HOPS: u8 = 64;
const HEADER: usize = 8;
/// What waits to be read at most; a system's own default is about as much.
const MOST_BYTES: usize = 1 << 20;
/// What one datagram counts besides its payload.
const OVERHEAD: usize = 256;
/// The longest packet, with its headers.
const LONGEST: usize = 65_535;

/// A datagram as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Who sent it.
    pub source: SocketAddr,
    /// What it says.
    pub payload: Vec<u8>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Datagrams {
    waiting: VecDeque<Datagram>,
    bytes: usize,
    pub failure: Option<Failure>,
}

impl Datagrams {
    /// False when it is full: the datagram is lost.
    pub(crate) fn put(&mut self, datagram: Datagram) -> bool {
        let size = datagram.payload.len() + OVERHEAD;
        if self.bytes + size > MOST_BYTES {
            return false;
        }
        self.bytes += size;
        self.waiting.push_back(datagram);
        true
    }

    pub(crate) fn take(&mut self) -> Option<Datagram> {
        let datagram = self.waiting.pop_front()?;
        self.bytes -= datagram.payload.len() + OVERHEAD;
        Some(datagram)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// The packet that carries `payload`, however long; the ends are of one family.
pub(crate) fn build(pair: Pair, payload: &[u8]) -> Result<Vec<u8>, Failure> {
    let (local, remote): (IpAddress, IpAddress) = (pair.local.ip().into(), pair.remote.ip().into());
    let ip = IpRepr::new(local, remote, IpProtocol::Udp, HEADER + payload.len(), HOPS);
    let total = ip.header_len() + HEADER + payload.len();
    if total > LONGEST {
        return Err(Failure::TooLong);
    }
    let mut bytes = vec![0; total];
    let checksum = ChecksumCapabilities::default();
    ip.emit(&mut bytes, &checksum);
    let udp = UdpRepr {
        src_port: pair.local.port(),
        dst_port: pair.remote.port(),
    };
    udp.emit(
        &mut UdpPacket::new_unchecked(&mut bytes[ip.header_len()..]),
        &local,
        &remote,
        payload.len(),
        |room| room.copy_from_slice(payload),
        &checksum,
    );
    Ok(bytes)
}
