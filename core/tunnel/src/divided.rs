//! A packet device of which some hosts live inside this process: what an
//! application sends to them never gets near a tunnel, and what they send goes
//! to the device. So a node answers DNS where nothing of the system is its own
//! but the device. Source: docs/protocol.md section 6.

use std::io;
use std::net::IpAddr;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use ntmobile_capsule::{Slice, Super, destination, finish_at};
use rustix::event::epoll;

use crate::packets::{Capability, Left, Packets};

/// Packets for the hosts inside after which the others get a turn.
const TURN: usize = 64;

/// See the module.
pub struct Divided {
    device: Arc<dyn Packets>,
    inside: Arc<dyn Packets>,
    hosts: Vec<IpAddr>,
    /// Readable when the device or the inside is.
    either: OwnedFd,
}

impl Divided {
    /// Puts `hosts`, which `inside` answers for, before `device`; fails when the
    /// process has no descriptor left.
    pub fn new(
        device: Arc<dyn Packets>,
        inside: Arc<dyn Packets>,
        hosts: Vec<IpAddr>,
    ) -> io::Result<Self> {
        let either = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (number, packets) in [(0, &device), (1, &inside)] {
            let data = epoll::EventData::new_u64(number);
            epoll::add(&either, packets.descriptor(), data, epoll::EventFlags::IN)?;
        }
        Ok(Self {
            device,
            inside,
            hosts,
            either,
        })
    }

    /// What the hosts inside sent, to the device. What it refuses is lost, as on
    /// any link.
    fn bring_out(&self, buffer: &mut [u8]) -> io::Result<()> {
        for _ in 0..TURN {
            let Some((left, range)) = self.inside.read(buffer)? else {
                break;
            };
            let _ = self.put(left, &mut buffer[range]);
        }
        Ok(())
    }

    fn put(&self, left: Left, packet: &mut [u8]) -> io::Result<()> {
        match left {
            Left::Segments(whole) if !self.device.capability().takes(whole.kind) => {
                for_each_segment(&whole, packet, |segment| {
                    self.device.write(Left::Nothing, [segment, &[]])
                })
            }
            Left::Checksum { start, offset } if !self.device.capability().tcp => {
                finish_at(packet, usize::from(start), usize::from(offset));
                self.device.write(Left::Nothing, [packet, &[]])
            }
            left => self.device.write(left, [packet, &[]]),
        }
    }

    fn is_inside(&self, packet: &[u8]) -> bool {
        destination(packet).is_some_and(|host| self.hosts.contains(&host))
    }
}

/// Cuts a super-packet into packets with all checksums.
fn for_each_segment(
    whole: &Super,
    packet: &[u8],
    mut put: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let (headers, payload) = packet.split_at(usize::from(whole.headers));
    let size = usize::from(whole.size);
    let last = whole.count(packet) - 1;
    for (index, piece) in payload.chunks(size).enumerate() {
        let mut segment = [headers, piece].concat();
        let slice = Slice {
            first: index as u16,
            payload: piece.len(),
            last: index == last,
        };
        whole.narrow(&mut segment[..headers.len()], &slice);
        whole.finish(&mut segment);
        put(&segment)?;
    }
    Ok(())
}

impl Packets for Divided {
    fn capability(&self) -> Capability {
        self.device.capability()
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<Option<(Left, Range<usize>)>> {
        for _ in 0..TURN {
            self.bring_out(buffer)?;
            let Some((left, range)) = self.device.read(buffer)? else {
                return Ok(None);
            };
            if !self.is_inside(&buffer[range.clone()]) {
                return Ok(Some((left, range)));
            }
            self.inside.write(left, [&buffer[range], &[]])?;
        }
        Ok(None)
    }

    fn write(&self, left: Left, pieces: [&[u8]; 2]) -> io::Result<()> {
        self.device.write(left, pieces)
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.either.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use ntmobile_capsule::Kind;
    use ntmobile_capsule::checksum::{finish_ipv4, pseudo, put};
    use ntmobile_port::Wake;

    use super::*;

    const HOST: [u8; 4] = [192, 0, 2, 53];
    const OWN: [u8; 4] = [100, 64, 0, 1];
    const PEER: [u8; 4] = [100, 64, 0, 2];

    /// Packets in memory: what there is to read, and what was written.
    struct Pipe {
        waiting: Mutex<VecDeque<(Left, Vec<u8>)>>,
        written: Mutex<Vec<Vec<u8>>>,
        wake: Wake,
    }

    impl Pipe {
        fn new(waiting: Vec<(Left, Vec<u8>)>) -> Arc<Self> {
            Arc::new(Self {
                waiting: Mutex::new(waiting.into()),
                written: Mutex::default(),
                wake: Wake::new().expect("there are descriptors"),
            })
        }

        fn written(&self) -> Vec<Vec<u8>> {
            self.written.lock().expect("nobody panicked").clone()
        }
    }

    impl Packets for Pipe {
        fn capability(&self) -> Capability {
            Capability::default()
        }

        fn read(&self, buffer: &mut [u8]) -> io::Result<Option<(Left, Range<usize>)>> {
            let next = self.waiting.lock().expect("nobody panicked").pop_front();
            Ok(next.map(|(left, packet)| {
                buffer[..packet.len()].copy_from_slice(&packet);
                (left, 0..packet.len())
            }))
        }

        fn write(&self, _left: Left, pieces: [&[u8]; 2]) -> io::Result<()> {
            let mut written = self.written.lock().expect("nobody panicked");
            written.push(pieces.concat());
            Ok(())
        }

        fn descriptor(&self) -> BorrowedFd<'_> {
            self.wake.as_fd()
        }
    }

    fn tcp(from: [u8; 4], to: [u8; 4], payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 40];
        packet[0] = 0x45;
        packet[8] = 64;
        packet[9] = 6;
        packet[12..16].copy_from_slice(&from);
        packet[16..20].copy_from_slice(&to);
        packet[32] = 5 << 4;
        packet[33] = 0x18;
        packet.extend_from_slice(payload);
        let total = packet.len();
        put(&mut packet, 2, total as u16);
        finish_ipv4(&mut packet[..20]);
        let sum = pseudo(&packet[12..20], 6, total - 20).fold();
        put(&mut packet, 36, sum);
        packet
    }

    fn read_all(divided: &Divided) -> Vec<Vec<u8>> {
        let mut buffer = vec![0; 1 << 16];
        let mut found = Vec::new();
        while let Some((_, range)) = divided.read(&mut buffer).expect("it reads") {
            found.push(buffer[range].to_vec());
        }
        found
    }

    fn divide(device: &Arc<Pipe>, inside: &Arc<Pipe>) -> Divided {
        let (device, inside) = (Arc::clone(device), Arc::clone(inside));
        Divided::new(device, inside, vec![HOST.into()]).expect("there are descriptors")
    }

    #[test]
    fn only_what_is_for_the_hosts_inside_goes_there() {
        let (to_host, to_peer) = (tcp(OWN, HOST, b"question"), tcp(OWN, PEER, b"data"));
        let packets = [&to_host, &to_peer, &to_host];
        let device = Pipe::new(packets.map(|each| (Left::Nothing, each.clone())).into());
        let inside = Pipe::new(Vec::new());

        let read = read_all(&divide(&device, &inside));

        assert_eq!(read, [to_peer]);
        assert_eq!(inside.written(), [to_host.clone(), to_host]);
    }

    #[test]
    fn what_the_inside_sends_reaches_a_device_without_offload_whole() {
        let packet = tcp(HOST, OWN, b"answer");
        let left = Left::Checksum {
            start: 20,
            offset: 16,
        };
        let (device, inside) = (
            Pipe::new(Vec::new()),
            Pipe::new(vec![(left, packet.clone())]),
        );

        assert!(read_all(&divide(&device, &inside)).is_empty());

        let mut whole = packet;
        finish_at(&mut whole, 20, 16);
        assert_eq!(device.written(), [whole]);
    }

    #[test]
    fn a_super_packet_of_the_inside_is_cut_for_a_device_that_cannot() {
        let payload: Vec<u8> = (0..250).collect();
        let packet = tcp(HOST, OWN, &payload);
        let whole = Super::new(&packet, Kind::TcpV4, false, 20, 100).expect("it is one");
        let inside = Pipe::new(vec![(Left::Segments(whole), packet)]);
        let device = Pipe::new(Vec::new());

        assert!(read_all(&divide(&device, &inside)).is_empty());

        let pieces = device.written();
        assert_eq!(
            pieces.iter().map(Vec::len).collect::<Vec<_>>(),
            [140, 140, 90]
        );
        for (piece, at) in pieces.iter().zip([0_u32, 100, 200]) {
            assert_eq!(piece[24..28], at.to_be_bytes());
            let sum = pseudo(&piece[12..20], 6, piece.len() - 20).with(&piece[20..]);
            assert_eq!(sum.fold(), 0xffff);
        }
        assert_eq!(
            pieces.iter().map(|p| p[33] & 8).collect::<Vec<_>>(),
            [0, 0, 8]
        );
    }
}
