//! Packets that leave, until the engine takes them.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ntmobile_port::Wake;
use ntmobile_tunnel::Left;

use crate::wire::Leaving;

/// Datagrams beyond that many packets are lost, as on any full link. TCP is
/// bounded by its windows.
const MOST: usize = 4096;

/// See the module.
pub(crate) struct Outbox {
    packets: Mutex<VecDeque<Leaving>>,
    wake: Wake,
}

impl Outbox {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            packets: Mutex::new(VecDeque::new()),
            wake: Wake::new()?,
        })
    }

    pub(crate) fn put(&self, packets: impl Iterator<Item = Leaving>) {
        let mut waiting = self.lock();
        let before = waiting.len();
        waiting.extend(packets);
        if before == 0 && !waiting.is_empty() {
            self.wake.set();
        }
    }

    /// False when it is full.
    pub(crate) fn put_datagram(&self, packet: Leaving) -> bool {
        if self.lock().len() >= MOST {
            return false;
        }
        self.put(std::iter::once(packet));
        true
    }

    /// Copies the next packet to the front of `buffer`.
    pub(crate) fn take(&self, buffer: &mut [u8]) -> Option<(Left, Range<usize>)> {
        let mut waiting = self.lock();
        let Some(packet) = waiting.pop_front() else {
            self.wake.clear();
            return None;
        };
        drop(waiting);
        let place = 0..packet.bytes.len();
        buffer
            .get_mut(place.clone())?
            .copy_from_slice(&packet.bytes);
        Some((packet.left, place))
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Leaving>> {
        self.packets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
