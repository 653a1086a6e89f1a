//! TUN devices, with segmentation offload where the kernel grants it.

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use ntmobile_capsule::{Kind, Super};

use crate::packets::{Capability, Left, Packets};

const TUN_F_CSUM: u32 = 0x01;
const TUN_F_TSO4: u32 = 0x02;
const TUN_F_TSO6: u32 = 0x04;
const TUN_F_TSO_ECN: u32 = 0x08;
const TUN_F_USO4: u32 = 0x20;
const TUN_F_USO6: u32 = 0x40;
const TSO: u32 = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
const USO: u32 = TUN_F_USO4 | TUN_F_USO6;

/// struct virtio_net_hdr, in the machine's byte order: flags, kind, header
/// length, segment size, checksum start, checksum offset.
const VIRTIO: usize = 10;
const NEEDS_CHECKSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_ECN: u8 = 0x80;

/// A TUN device that was opened.
#[derive(Debug)]
pub struct Opened {
    /// The device's descriptor.
    pub fd: OwnedFd,
    /// The name it got.
    pub name: String,
    /// It hands over and takes super-packets.
    pub offload: bool,
}

/// An attached TUN device.
#[derive(Debug)]
pub struct Tun {
    file: File,
    virtio: bool,
    capability: Capability,
}

/// Opens the TUN device `name` (`%d` in it takes the next free number),
/// making it if it does not exist; `offload` asks for super-packets. Fails
/// without the right to do so, or when the name is too long (15 bytes) or taken.
pub fn open(name: &str, offload: bool) -> io::Result<Opened> {
    let file = File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun")?;
    let flags = libc::IFF_TUN | libc::IFF_NO_PI | if offload { libc::IFF_VNET_HDR } else { 0 };
    let name = set_interface(&file, name, flags)?;
    let granted = offload && grant(file.as_raw_fd()).tcp;
    let fd: OwnedFd = file.into();
    if granted {
        // A larger super-packet would need two sends; not fatal when refused.
        let _ = crate::link::limit_super_packets(&name);
    }
    Ok(Opened {
        fd,
        name,
        offload: granted,
    })
}

impl Tun {
    /// Takes a duplicate of `fd`, a TUN device without packet information;
    /// `offload` says that it was opened with super-packets, or with the
    /// virtio header at least.
    pub fn attach(fd: RawFd, offload: bool) -> io::Result<Self> {
        // SAFETY: the duplicate is ours alone; an invalid `fd` fails.
        let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) };
        if copy < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: fcntl just returned this descriptor, and nobody else has it.
        let file = File::from(unsafe { OwnedFd::from_raw_fd(copy) });
        let flags = rustix::fs::fcntl_getfl(&file)?;
        rustix::fs::fcntl_setfl(&file, flags | rustix::fs::OFlags::NONBLOCK)?;
        let capability = if offload {
            grant(copy)
        } else {
            Capability::default()
        };
        Ok(Self {
            file,
            virtio: offload,
            capability,
        })
    }
}

impl Packets for Tun {
    fn capability(&self) -> Capability {
        self.capability
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<Option<(Left, Range<usize>)>> {
        let length = match (&self.file).read(buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        if !self.virtio {
            return Ok(Some((Left::Nothing, 0..length)));
        }
        let (head, packet) = buffer[..length]
            .split_first_chunk::<VIRTIO>()
            .ok_or(io::ErrorKind::InvalidData)?;
        Ok(Some((left(head, packet), VIRTIO..length)))
    }

    fn write(&self, left: Left, pieces: [&[u8]; 2]) -> io::Result<()> {
        let head = virtio(left, pieces[0].len());
        let all = [&head[..], pieces[0], pieces[1]].map(IoSlice::new);
        let from = if self.virtio { 0 } else { 1 };
        (&self.file).write_vectored(&all[from..]).map(drop)
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn left(head: &[u8; VIRTIO], packet: &[u8]) -> Left {
    let [flags, kind, _, _, s0, s1, c0, c1, o0, o1] = *head;
    let (start, offset) = (u16::from_ne_bytes([c0, c1]), u16::from_ne_bytes([o0, o1]));
    let size = u16::from_ne_bytes([s0, s1]);
    let whole = match kind & !GSO_ECN {
        1 => Some(Kind::TcpV4),
        4 => Some(Kind::TcpV6),
        5 => Some(Kind::Udp),
        _ => None,
    };
    let segments = whole
        .and_then(|whole| Super::new(packet, whole, kind & GSO_ECN != 0, usize::from(start), size));
    match segments {
        Some(whole) => Left::Segments(whole),
        None if flags & NEEDS_CHECKSUM != 0 => Left::Checksum { start, offset },
        None => Left::Nothing,
    }
}

fn virtio(left: Left, headers: usize) -> [u8; VIRTIO] {
    let (flags, kind, headers, size, start, offset) = match left {
        Left::Nothing => (0, GSO_NONE, 0, 0, 0, 0),
        Left::Checksum { start, offset } => (NEEDS_CHECKSUM, GSO_NONE, 0, 0, start, offset),
        Left::Segments(whole) => (
            NEEDS_CHECKSUM,
            whole.kind as u8 | if whole.ecn { GSO_ECN } else { 0 },
            headers as u16,
            whole.size,
            u16::from(whole.upper),
            u16::from(whole.kind.checksum()),
        ),
    };
    let mut head = [0; VIRTIO];
    head[0] = flags;
    head[1] = kind;
    for (at, value) in [headers, size, start, offset].into_iter().enumerate() {
        head[2 + 2 * at..][..2].copy_from_slice(&value.to_ne_bytes());
    }
    head
}

/// Asks for as much offload as the kernel of the device `fd` grants.
fn grant(fd: RawFd) -> Capability {
    let ask = |flags: u32| {
        // SAFETY: TUNSETOFFLOAD takes its argument by value.
        unsafe { libc::ioctl(fd, libc::TUNSETOFFLOAD as _, libc::c_ulong::from(flags)) == 0 }
    };
    let udp = ask(TSO | USO);
    Capability {
        tcp: udp || ask(TSO),
        udp,
    }
}

fn set_interface(file: &File, name: &str, flags: libc::c_int) -> io::Result<String> {
    // SAFETY: all-zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() || name.contains('\0') {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: the request is a whole ifreq, and outlives the call.
    if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let name = request.ifr_name.iter().take_while(|byte| **byte != 0);
    Ok(name.map(|byte| char::from(*byte as u8)).collect())
}
