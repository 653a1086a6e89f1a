//! The seam to where inner packets come from and go to: a TUN device today, a
//! channel to a user-space stack when the node runs inside an application.

use std::io;
use std::os::fd::BorrowedFd;

use ntmobile_capsule::{Kind, Super};

/// What the other side of the seam can do itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capability {
    /// It finishes checksums and cuts TCP super-packets.
    pub tcp: bool,
    /// It cuts UDP super-packets too.
    pub udp: bool,
}

/// What is left to do on a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// It is ready as it is.
    Nothing,
    /// The checksum over everything from `start`, at `start + offset`.
    Checksum {
        /// Where TCP or UDP begins.
        start: u16,
        /// Where in it the checksum lies.
        offset: u16,
    },
    /// It is a super-packet: cutting it up, with all checksums.
    Segments(Super),
}

impl Capability {
    /// Super-packets of `kind` can be written.
    pub fn takes(self, kind: Kind) -> bool {
        match kind {
            Kind::TcpV4 | Kind::TcpV6 => self.tcp,
            Kind::Udp => self.udp,
        }
    }
}

/// Where inner packets come from and go to. Both directions run at once.
pub trait Packets: Send + Sync {
    /// What may be left to do on packets that are written.
    fn capability(&self) -> Capability;

    /// Takes the next packet into `buffer`, which holds 64 KiB and
    /// [`HEADROOM`] more: what is left to do on it, and where it lies. None
    /// when nothing waits; [`Packets::descriptor`] says when something does.
    fn read(&self, buffer: &mut [u8]) -> io::Result<Option<(Left, std::ops::Range<usize>)>>;

    /// Hands over one packet in two pieces. `left` never asks for more than
    /// [`Packets::capability`].
    fn write(&self, left: Left, pieces: [&[u8]; 2]) -> io::Result<()>;

    /// Readable when a packet waits.
    fn descriptor(&self) -> BorrowedFd<'_>;
}

/// What a read buffer holds besides the packet.
pub const HEADROOM: usize = 16;
