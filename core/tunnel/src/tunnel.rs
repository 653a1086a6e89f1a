//! One tunnel as the packet loops hold it: a half per direction, each under a
//! lock of its own, so that the two threads never wait for each other.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ntmobile_capsule::{Addresses, Budget, Epoch, Log, Opener, ReceiveState, Sealer};

use crate::early::Early;
use crate::own::Own;

/// A tunnel to one peer.
pub(crate) struct Tunnel {
    /// Capsules to us carry it.
    pub index: u32,
    /// Which inner addresses it carries.
    pub addresses: Addresses,
    sending: Mutex<Sending>,
    receiving: Mutex<Receiving>,
    /// Commands that wait for the sending half.
    commands: AtomicUsize,
}

/// What only sending needs.
pub(crate) struct Sending {
    pub sealer: Sealer,
    pub log: Log,
    /// The last path, also where it is none any more.
    pub path: Option<Path>,
    /// Sockets of its own, by their numbers.
    pub own: Vec<Arc<Own>>,
    /// What becomes of data.
    pub gate: Gate,
    /// The first capsule of the open run.
    pub run: Option<(Epoch, u64)>,
    /// From which capsule on data only lie in the log, held or refused by the system.
    pub held: Option<(Epoch, u64)>,
    /// ECN bits of the open run.
    pub ecn: u8,
    /// Serial number of the last super-packet.
    pub serial: u8,
    /// What the system refused to send was told; it is told once a failure.
    pub told_failure: bool,
    /// That new keys are due was told for the active epoch.
    pub told_due: bool,
    /// When the last packet of an application left.
    pub busy_ns: Option<u64>,
    pub traffic: Traffic,
}

/// What only receiving needs.
pub(crate) struct Receiving {
    pub opener: Opener,
    pub early: Early,
    pub path: Option<Path>,
    /// Where a move was told last, and when.
    pub told_move: Option<(SocketAddr, u64)>,
    pub traffic: Traffic,
}

/// What becomes of data that was sealed into the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Gate {
    /// They leave.
    #[default]
    Open,
    /// They stay there until the peer has told what it misses: what overtook
    /// the lost would be taken for a loss by TCP.
    Held,
    /// They stay there, for there is no path.
    Nowhere,
}

/// Where capsules go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    pub destination: SocketAddr,
    pub interface: u32,
    /// The largest inner packet, in bytes.
    pub mtu: u16,
    /// 0: the engine's port; else that one of the tunnel's own.
    pub socket: u32,
}

/// What passed in one direction.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    pub bytes: u64,
    pub capsules: u64,
    pub last_ns: Option<u64>,
}

/// What has passed through a tunnel; all bytes are of inner packets and control
/// messages, without what capsules add.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// Bytes sealed.
    pub tx_bytes: u64,
    /// Bytes opened.
    pub rx_bytes: u64,
    /// Capsules sealed.
    pub tx_packets: u64,
    /// Capsules opened.
    pub rx_packets: u64,
    /// Nanoseconds since the last one was sealed.
    pub last_tx_ns: Option<u64>,
    /// Nanoseconds since the last one was opened.
    pub last_rx_ns: Option<u64>,
}

impl Tunnel {
    pub(crate) fn new(index: u32, addresses: Addresses, budget: &Arc<Budget>) -> Self {
        Self {
            index,
            addresses,
            sending: Mutex::new(Sending {
                sealer: Sealer::default(),
                log: Log::new(budget),
                path: None,
                own: Vec::new(),
                gate: Gate::Nowhere,
                run: None,
                held: None,
                ecn: 0,
                serial: 0,
                told_failure: false,
                told_due: false,
                busy_ns: None,
                traffic: Traffic::default(),
            }),
            receiving: Mutex::new(Receiving {
                opener: Opener::default(),
                early: Early::default(),
                path: None,
                told_move: None,
                traffic: Traffic::default(),
            }),
            commands: AtomicUsize::new(0),
        }
    }

    /// The sending half, for a command: the packet loop lets it go soon, as a
    /// lock alone would not make it.
    pub(crate) fn command(&self) -> MutexGuard<'_, Sending> {
        self.commands.fetch_add(1, Ordering::Relaxed);
        let sending = self.sending();
        self.commands.fetch_sub(1, Ordering::Relaxed);
        sending
    }

    /// A command waits for the sending half.
    pub(crate) fn is_commanded(&self) -> bool {
        self.commands.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn sending(&self) -> MutexGuard<'_, Sending> {
        self.sending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn receiving(&self) -> MutexGuard<'_, Receiving> {
        self.receiving
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Where capsules go from now on; none makes data stay in the log.
    pub(crate) fn set_path(&self, path: Option<Path>, gate: Gate) {
        let mut sending = self.command();
        sending.path = path.or(sending.path);
        sending.gate = gate;
        sending.told_failure = false;
        drop(sending);
        let mut receiving = self.receiving();
        receiving.path = path;
        receiving.told_move = None;
    }

    pub(crate) fn statistics(&self, now_ns: u64) -> Statistics {
        let age = |last: Option<u64>| last.map(|last| now_ns.saturating_sub(last));
        let tx = self.command().traffic;
        let rx = self.receiving().traffic;
        Statistics {
            tx_bytes: tx.bytes,
            rx_bytes: rx.bytes,
            tx_packets: tx.capsules,
            rx_packets: rx.capsules,
            last_tx_ns: age(tx.last_ns),
            last_rx_ns: age(rx.last_ns),
        }
    }
}

impl Sending {
    /// Packets can be sealed, even if they have to stay in the log.
    pub(crate) fn is_up(&self) -> bool {
        self.path.is_some() && self.sealer.is_ready()
    }

    /// Where capsules go now.
    pub(crate) fn way(&self) -> Option<Path> {
        self.path.filter(|_| self.gate != Gate::Nowhere)
    }

    /// What a peer would tell that lacks only what was held.
    pub(crate) fn before_held(&self) -> Option<ReceiveState> {
        let (epoch, counter) = self.held?;
        // Nothing comes before counter 0: then that one is told as lacking.
        let (highest, bitmap) = match counter.checked_sub(1) {
            Some(highest) => (highest, Vec::new()),
            None => (0, vec![0xfe]),
        };
        Some(ReceiveState {
            epoch,
            highest,
            bitmap,
        })
    }
}

impl Traffic {
    pub(crate) fn count(&mut self, bytes: usize, now_ns: u64) {
        self.bytes += bytes as u64;
        self.capsules += 1;
        self.last_ns = Some(now_ns);
    }
}
