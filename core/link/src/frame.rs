//! A frame as the kernel hands it over: what offload left to do, then the bytes.

/// Length of `struct virtio_net_hdr`, which precedes every frame: flags, kind,
/// header length, segment size, checksum start, checksum offset; the numbers in
/// the machine's byte order.
pub(crate) const VIRTIO: usize = 10;

/// A frame with its virtio header in front.
pub type Frame = Vec<u8>;

pub(crate) const NEEDS_CHECKSUM: u8 = 1;
const WITHOUT_ECN: u8 = 0x7f;

/// What a super-packet is cut into.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Whole {
    TcpV4,
    TcpV6,
    Udp,
}

/// The kind of super-packet, if it is one, and its segment size.
pub(crate) fn whole(frame: &[u8]) -> Option<(Whole, usize)> {
    let kind = match frame.get(1)? & WITHOUT_ECN {
        1 => Whole::TcpV4,
        4 => Whole::TcpV6,
        5 => Whole::Udp,
        _ => return None,
    };
    let size = usize::from(u16::from_ne_bytes([frame[4], frame[5]]));
    (size > 0).then_some((kind, size))
}

/// A virtio header that leaves one checksum to do, `offset` behind `start`.
pub(crate) fn checksum_left(start: usize, offset: usize) -> [u8; VIRTIO] {
    let mut header = [0; VIRTIO];
    header[0] = NEEDS_CHECKSUM;
    header[6..8].copy_from_slice(&(start as u16).to_ne_bytes());
    header[8..10].copy_from_slice(&(offset as u16).to_ne_bytes());
    header
}
