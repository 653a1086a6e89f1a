//! Cuts super-packets into the packets that a wire would carry.

use crate::frame::{Frame, VIRTIO, Whole, checksum_left, whole};

const ETHERNET: usize = 14;
const IPV6: usize = 40;
const UDP: usize = 8;
const PROTOCOL_TCP: u16 = 6;
const PROTOCOL_UDP: u16 = 17;
const FIN_PSH: u8 = 0x09;
const CWR: u8 = 0x80;

/// Where the headers of a super-packet are, from the Ethernet header on.
#[derive(Clone, Copy, Debug)]
struct Layout {
    kind: Whole,
    ipv4: bool,
    upper: usize,
    payload: usize,
}

/// The packets in a frame, in order; the frame itself if it is not a
/// super-packet, or not one that we know how to cut.
pub fn segments(frame: Frame) -> Vec<Frame> {
    let cut = whole(&frame).and_then(|(kind, size)| {
        let bytes = &frame[VIRTIO..];
        let layout = layout(kind, bytes)?;
        let chunks = bytes[layout.payload..].chunks(size);
        let last = chunks.len().checked_sub(1)?;
        Some(
            chunks
                .enumerate()
                .map(|(index, chunk)| {
                    let headers = &bytes[..layout.payload];
                    segment(layout, headers, chunk, index, index * size, index == last)
                })
                .collect(),
        )
    });
    cut.unwrap_or_else(|| vec![frame])
}

fn layout(kind: Whole, bytes: &[u8]) -> Option<Layout> {
    let (ipv4, upper) = match *bytes.get(12..14)? {
        [0x08, 0x00] => (true, ETHERNET + usize::from(bytes.get(ETHERNET)? & 15) * 4),
        // Extension headers do not occur in what is offloaded here.
        [0x86, 0xdd] => (false, ETHERNET + IPV6),
        _ => return None,
    };
    let length = match kind {
        Whole::Udp => UDP,
        Whole::TcpV4 | Whole::TcpV6 => usize::from(bytes.get(upper + 12)? >> 4) * 4,
    };
    let payload = upper + length;
    (payload <= bytes.len()).then_some(Layout {
        kind,
        ipv4,
        upper,
        payload,
    })
}

fn segment(
    layout: Layout,
    headers: &[u8],
    chunk: &[u8],
    index: usize,
    offset: usize,
    last: bool,
) -> Frame {
    let at = if layout.kind == Whole::Udp { 6 } else { 16 };
    let mut frame = Vec::with_capacity(VIRTIO + headers.len() + chunk.len());
    frame.extend_from_slice(&checksum_left(layout.upper, at));
    frame.extend_from_slice(headers);
    frame.extend_from_slice(chunk);
    let bytes = &mut frame[VIRTIO..];
    let length = bytes.len() - layout.upper;
    narrow_ip(layout, bytes, index);
    match layout.kind {
        Whole::Udp => put(bytes, layout.upper + 4, length as u16),
        Whole::TcpV4 | Whole::TcpV6 => narrow_tcp(layout, bytes, index, offset, last),
    }
    let sum = pseudo_header(layout, bytes, length);
    put(bytes, layout.upper + at, sum);
    frame
}

fn narrow_ip(layout: Layout, bytes: &mut [u8], index: usize) {
    let length = bytes.len() - ETHERNET;
    if !layout.ipv4 {
        put(bytes, ETHERNET + 4, (length - IPV6) as u16);
        return;
    }
    put(bytes, ETHERNET + 2, length as u16);
    let identification = word(bytes, ETHERNET + 4).wrapping_add(index as u16);
    put(bytes, ETHERNET + 4, identification);
    put(bytes, ETHERNET + 10, 0);
    let checksum = !sum(&bytes[ETHERNET..layout.upper], 0);
    put(bytes, ETHERNET + 10, checksum);
}

fn narrow_tcp(layout: Layout, bytes: &mut [u8], index: usize, offset: usize, last: bool) {
    let at = layout.upper + 4;
    let sequence = u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let sequence = sequence.wrapping_add(offset as u32);
    bytes[at..at + 4].copy_from_slice(&sequence.to_be_bytes());
    if !last {
        bytes[layout.upper + 13] &= !FIN_PSH;
    }
    if index > 0 {
        bytes[layout.upper + 13] &= !CWR;
    }
}

/// The sum that stands in for the checksum until somebody completes it.
fn pseudo_header(layout: Layout, bytes: &[u8], length: usize) -> u16 {
    let addresses = if layout.ipv4 {
        &bytes[ETHERNET + 12..ETHERNET + 20]
    } else {
        &bytes[ETHERNET + 8..ETHERNET + 40]
    };
    let protocol = match layout.kind {
        Whole::Udp => PROTOCOL_UDP,
        Whole::TcpV4 | Whole::TcpV6 => PROTOCOL_TCP,
    };
    sum(addresses, u32::from(protocol) + length as u32)
}

fn sum(bytes: &[u8], start: u32) -> u16 {
    let mut sum = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .fold(start, |sum, word| sum + word);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u16 = 1000;
    const PAYLOAD: usize = 2500;

    fn super_packet(kind: u8, ipv4: bool, upper: &[u8]) -> Frame {
        let mut frame = vec![1, kind, 0, 0];
        frame.extend_from_slice(&SIZE.to_ne_bytes());
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(&[0x22; 12]);
        if ipv4 {
            let ip = [0x45, 0, 0, 0, 0x12, 0xff, 0x40, 0, 64, 6, 0xaa, 0xaa];
            frame.extend_from_slice(&[8, 0]);
            frame.extend_from_slice(&ip);
            frame.extend_from_slice(&[192, 0, 2, 1, 198, 51, 100, 1]);
        } else {
            frame.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 6, 64]);
            frame.extend_from_slice(&[0x20; 32]);
        }
        frame.extend_from_slice(upper);
        frame.extend((0..PAYLOAD).map(|number| number as u8));
        frame
    }

    fn tcp(flags: u8) -> [u8; 20] {
        let mut header = [0; 20];
        header[4..8].copy_from_slice(&0xffff_ff00u32.to_be_bytes());
        header[12] = 0x50;
        header[13] = flags;
        header
    }

    fn tcp_of(frame: &Frame) -> (u32, u8, usize) {
        let bytes = &frame[VIRTIO + ETHERNET + 20..];
        let sequence = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        (sequence, bytes[13], bytes.len() - 20)
    }

    #[test]
    fn tcp_segments_continue_the_sequence_and_only_the_ends_carry_flags() {
        let whole = super_packet(1, true, &tcp(CWR | 0x10 | FIN_PSH));

        let cut = segments(whole);

        let seen: Vec<_> = cut.iter().map(tcp_of).collect();
        assert_eq!(
            seen,
            [
                (0xffff_ff00, CWR | 0x10, 1000),
                (0xffff_ff00u32.wrapping_add(1000), 0x10, 1000),
                (0xffff_ff00u32.wrapping_add(2000), 0x10 | FIN_PSH, 500),
            ]
        );
    }

    #[test]
    fn ipv4_headers_have_their_length_number_and_checksum() {
        for (index, frame) in segments(super_packet(1, true, &tcp(0x10)))
            .iter()
            .enumerate()
        {
            let ip = &frame[VIRTIO + ETHERNET..][..20];

            assert_eq!(usize::from(word(ip, 2)), frame.len() - VIRTIO - ETHERNET);
            assert_eq!(word(ip, 4), 0x12ff + index as u16);
            assert_eq!(sum(ip, 0), 0xffff);
        }
    }

    #[test]
    fn the_checksum_is_left_to_do_and_starts_from_the_pseudo_header() {
        let cut = segments(super_packet(1, true, &tcp(0x10)));

        let length = 20 + 500;
        let addresses = [192, 0, 2, 1, 198, 51, 100, 1];
        let last = &cut[2];
        assert_eq!(last[..VIRTIO], checksum_left(ETHERNET + 20, 16));
        assert_eq!(
            word(last, VIRTIO + ETHERNET + 20 + 16),
            sum(&addresses, 6 + length)
        );
    }

    #[test]
    fn ipv6_tcp_and_ipv4_udp_are_cut_as_well() {
        let six = segments(super_packet(4, false, &tcp(0x10)));
        let udp = segments(super_packet(5, true, &[0; 8]));

        assert_eq!(word(&six[0], VIRTIO + ETHERNET + 4), 20 + 1000);
        assert_eq!(word(&udp[2], VIRTIO + ETHERNET + 20 + 4), 8 + 500);
        assert_eq!((six.len(), udp.len()), (3, 3));
    }

    #[test]
    fn what_is_no_super_packet_passes_as_it_is() {
        let mut single = super_packet(0, true, &tcp(0x10));
        assert_eq!(segments(single.clone()), [single.clone()]);

        single.truncate(VIRTIO + 20);
        single[1] = 1;
        assert_eq!(segments(single.clone()), [single]);
    }
}
