//! A port with a reader thread: everything that arrives goes to the inbox.

use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::datagram::Datagram;
use crate::homes::Homes;
use crate::intake::Intake;
use crate::pair::{Local, Pair, bind_to};
use crate::socket::{Buffers, Received, Socket};
use crate::wake::Wake;

/// Messages taken in one receive call.
const BATCH: usize = 16;

/// What a port has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams that were queued.
    pub received: u64,
    /// Datagrams lost because the queue was full.
    pub queue_full: u64,
    /// Datagrams longer than [`crate::LONGEST`].
    pub too_long: u64,
    /// Datagrams handed to the system.
    pub sent: u64,
    /// Datagrams the system refused.
    pub send_failed: u64,
}

/// A UDP port whose datagrams wait in a bounded queue.
///
/// Outbound: [`Port::send`]. Inbound: watch [`Port::fd`], then [`Port::drain`].
/// [`Port::close`] ends the thread; dropping closes too.
#[derive(Debug)]
pub struct Port {
    shared: Arc<Shared>,
    reader: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    pair: Pair,
    local: Local,
    homes: Option<Homes>,
    intake: Intake,
    stop: Wake,
    sent: AtomicU64,
    send_failed: AtomicU64,
}

impl Port {
    /// Opens `local` as [`bind_to`] does and starts reading into a queue of
    /// `queue` datagrams. Of as many peers as `homes` says (0: of none), what is
    /// sent leaves from where they last asked, in a family bound to all addresses.
    pub fn open(local: Local, mark: u32, queue: usize, homes: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            pair: bind_to(local, mark)?,
            local,
            homes: (homes != 0).then(|| Homes::new(homes)),
            intake: Intake::new(queue)?,
            stop: Wake::new()?,
            sent: AtomicU64::new(0),
            send_failed: AtomicU64::new(0),
        });
        let reading = Arc::clone(&shared);
        let reader = thread::Builder::new()
            .name("ntm-port".into())
            .spawn(move || reading.read_until_stopped())?;
        Ok(Self {
            shared,
            reader: Mutex::new(Some(reader)),
        })
    }

    /// The number the port is bound to.
    pub fn number(&self) -> u16 {
        self.shared.pair.port
    }

    /// Descriptor that is readable exactly while [`Port::drain`] has something.
    pub fn fd(&self) -> i32 {
        self.shared.intake.inbox().fd()
    }

    /// Descriptors of the UDP sockets, which stay the port's.
    pub fn sockets(&self) -> Vec<RawFd> {
        self.shared.pair.descriptors()
    }

    /// Takes up to `most` datagrams, oldest first.
    pub fn drain(&self, most: usize) -> Vec<Datagram> {
        self.shared.intake.inbox().drain(most)
    }

    /// Sends one datagram, as [`Pair::send_from`] does.
    pub fn send(&self, destination: SocketAddr, payload: &[u8], interface: u32) -> io::Result<()> {
        let source = self
            .shared
            .homes
            .as_ref()
            .and_then(|homes| homes.of(destination));
        let result = self
            .shared
            .pair
            .send_from(source, destination, payload, interface);
        let counter = if result.is_ok() {
            &self.shared.sent
        } else {
            &self.shared.send_failed
        };
        counter.fetch_add(1, Ordering::Relaxed);
        result
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            received: self.shared.intake.received(),
            queue_full: self.shared.intake.inbox().dropped(),
            too_long: self.shared.intake.too_long(),
            sent: read(&self.shared.sent),
            send_failed: read(&self.shared.send_failed),
        }
    }

    /// Ends the reader thread. The sockets close when the port is dropped.
    pub fn close(&self) {
        self.shared.stop.set();
        let reader = self
            .reader
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(reader) = reader {
            // A panicked reader has nothing left to clean up.
            let _ = reader.join();
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn read_until_stopped(&self) {
        let mut buffers = Buffers::new(BATCH);
        while let Ok(ready) = self.stop.wait(&self.pair) {
            if ready.woken {
                return;
            }
            if ready.v4 {
                self.take_from(&self.pair.v4, &mut buffers);
            }
            if let Some(v6) = self.pair.v6.as_ref().filter(|_| ready.v6) {
                self.take_from(v6, &mut buffers);
            }
        }
    }

    fn take_from(&self, socket: &Socket, buffers: &mut Buffers) {
        // An error here is an ICMP report about an earlier send; reading it clears it.
        if socket.receive(buffers).is_ok() {
            for received in buffers.received() {
                self.note(&received);
                for bytes in received.datagrams() {
                    self.intake.put(received.source, received.interface, bytes);
                }
            }
        }
    }

    fn note(&self, received: &Received<'_>) {
        let Some(homes) = &self.homes else { return };
        if let Some(local) = received.local
            && self.local.is_any(local.is_ipv6())
        {
            homes.note(received.source, local);
        }
    }
}
