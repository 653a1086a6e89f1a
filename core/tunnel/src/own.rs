//! Sockets of one tunnel's own, beside the engine's port: each has a mapping of
//! its own at a NAT, and a peer that found one of these is talked to through it.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;

use ntmobile_port::Socket;

use crate::shared::Shared;
use crate::tunnel::Path;

/// The number of the engine's second port, which takes turns with the first one.
pub const SPARE: u32 = 1 << 31;

/// One of them; only capsules of its tunnel are taken from it.
#[derive(Debug)]
pub(crate) struct Own {
    /// The tunnel.
    pub index: u32,
    /// Which one; never 0, which is the engine's port.
    pub number: u32,
    /// Of IPv4.
    pub socket: Socket,
}

impl Own {
    pub(crate) fn fd(&self) -> RawFd {
        self.socket.as_fd().as_raw_fd()
    }
}

/// The socket that a path leads through; none where there is no such family, or
/// it was closed.
pub(crate) fn through<'a>(
    shared: &'a Shared,
    own: &'a [Arc<Own>],
    path: &Path,
) -> Option<&'a Socket> {
    if matches!(path.socket, 0 | SPARE) {
        return shared.toward(&path.destination, path.socket);
    }
    let own = own.iter().find(|own| own.number == path.socket)?;
    path.destination.is_ipv4().then_some(&own.socket)
}
