//! What Python commands. Every call returns at once; the loops see its effect
//! with the next packet.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use ntmobile_capsule::{Addresses, Cipher, Epoch, KEY, ReceiveState};
use ntmobile_port::{Socket, Wake, bind};

use crate::counters::add;
use crate::device::Device;
use crate::networks::{Network, Networks};
use crate::own::Own;
use crate::packets::Packets;
use crate::sending::Sender;
use crate::shared::Shared;
use crate::signal::Signal;
use crate::tun::Tun;
use crate::tunnel::{Gate, Path, Statistics, Tunnel};
use crate::view::destinations;
use crate::{incoming, outgoing};

/// A node's UDP port, its tunnels, and the packet device if it has one.
///
/// Commands: everything but the following. What happened: watch
/// [`Engine::fd`], then [`Engine::drain`]. End: [`Engine::close`]; dropping
/// closes too.
pub struct Engine {
    shared: Arc<Shared>,
    receiver: Mutex<Option<JoinHandle<()>>>,
    reader: Mutex<Option<Reader>>,
}

/// The second thread, for a busy device.
struct Reader {
    stop: Arc<Wake>,
    thread: JoinHandle<()>,
}

/// What the caller did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineError {
    /// There is no tunnel of this index.
    UnknownTunnel,
    /// There is one already, or one to the same virtual address.
    TunnelExists,
    /// The epoch holds no keys.
    NoKeys,
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownTunnel => "there is no tunnel of this index",
            Self::TunnelExists => "a tunnel of this index or to this address is open already",
            Self::NoKeys => "the epoch holds no keys",
        })
    }
}

impl std::error::Error for EngineError {}

impl Engine {
    /// Opens UDP `port` (0: any) with `mark` (0: none) on what is sent, and
    /// starts receiving; `queue` signals wait for Python at most.
    pub fn open(port: u16, mark: u32, queue: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(bind(port, mark)?, queue)?);
        let receiving = Arc::clone(&shared);
        let receiver = spawn("ntm-receive", move || incoming::run(&receiving))?;
        Ok(Self {
            shared,
            receiver: Mutex::new(Some(receiver)),
            reader: Mutex::new(None),
        })
    }

    /// The number of the UDP port.
    pub fn port(&self) -> u16 {
        self.shared.pair.port
    }

    /// Readable exactly while [`Engine::drain`] has something.
    pub fn fd(&self) -> RawFd {
        self.shared.inbox.fd()
    }

    /// Descriptors of the UDP sockets, which stay the engine's.
    pub fn sockets(&self) -> Vec<RawFd> {
        self.shared.pair.descriptors()
    }

    /// Takes up to `most` signals, oldest first.
    pub fn drain(&self, most: usize) -> Vec<Signal> {
        self.shared.inbox.drain(most)
    }

    /// Opens the second port, of IPv4, which the socket number [`crate::SPARE`]
    /// means from now on; returns its descriptor, which stays the engine's. A
    /// second time does nothing.
    pub fn open_spare(&self) -> io::Result<RawFd> {
        if self.shared.spare.get().is_none() {
            // Of two callers at once one's socket is closed again.
            let _ = self.shared.spare.set(Socket::another()?);
            self.shared.kick.set();
        }
        let spare = self.shared.spare.get().ok_or(io::ErrorKind::NotFound)?;
        Ok(spare.as_fd().as_raw_fd())
    }

    /// Sends a datagram of Python's, from the second port if `socket` is its
    /// number; a refusal comes back as a signal.
    pub fn send(&self, destination: SocketAddr, payload: &[u8], interface: u32, socket: u32) {
        if let Err(error) = self.shared.send(destination, payload, interface, socket) {
            add(&self.shared.counters.send_failed);
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            self.shared
                .tell_with(|| Signal::SendFailed { index: 0, errno });
        }
    }

    /// Attaches the TUN device `fd`, of which a duplicate is taken; see [`Tun::attach`].
    pub fn attach_tun(&self, fd: RawFd, offload: bool) -> io::Result<()> {
        self.attach(Arc::new(Tun::attach(fd, offload)?))
    }

    /// Exchanges inner packets with `packets` from now on, instead of what was
    /// attached before.
    pub fn attach(&self, packets: Arc<dyn Packets>) -> io::Result<()> {
        self.detach();
        let device = Arc::new(Device::new(packets)?);
        let (reading, shared) = (Arc::clone(&device), Arc::clone(&self.shared));
        let stop = Arc::new(Wake::new()?);
        let stopped = Arc::clone(&stop);
        let thread = spawn("ntm-send", move || reading.run(&shared, &stopped))?;
        *lock(&self.reader) = Some(Reader { stop, thread });
        self.set_device(Some(device));
        Ok(())
    }

    /// Lets go of the packet device; the tunnels stay.
    pub fn detach(&self) {
        self.set_device(None);
        if let Some(Reader { stop, thread }) = lock(&self.reader).take() {
            stop.set();
            // A thread that panicked has nothing left to clean up.
            let _ = thread.join();
        }
    }

    /// Makes a tunnel without keys and path; packets to it wait.
    pub fn open_tunnel(&self, index: u32, addresses: Addresses) -> Result<(), EngineError> {
        let tunnel = Arc::new(Tunnel::new(index, addresses, &self.shared.budget));
        self.shared.present.change(|view| {
            let taken = destinations(&tunnel)
                .iter()
                .any(|address| view.destinations.contains_key(address));
            if taken || view.tunnels.contains_key(&index) {
                return Err(EngineError::TunnelExists);
            }
            view.add(tunnel);
            Ok(())
        })
    }

    /// Forgets a tunnel, its keys and its log.
    pub fn close_tunnel(&self, index: u32) -> Result<(), EngineError> {
        self.shared
            .present
            .change(|view| view.remove(index))
            .map(|_| self.shared.kick.set())
            .ok_or(EngineError::UnknownTunnel)
    }

    /// Puts keys into `epoch` of a tunnel, for both directions: capsules of it
    /// open from now on. `remote_index` is the peer's index of the tunnel.
    pub fn install_keys(
        &self,
        index: u32,
        epoch: Epoch,
        cipher: Cipher,
        send: &[u8; KEY],
        receive: &[u8; KEY],
        remote_index: u32,
    ) -> Result<(), EngineError> {
        let tunnel = self.tunnel(index)?;
        tunnel.receiving().opener.install(epoch, cipher, receive);
        let mut sending = tunnel.command();
        sending.sealer.install(epoch, cipher, send, remote_index);
        drop(sending);
        self.release(&tunnel);
        Ok(())
    }

    /// Seals with `epoch` from now on, and sends what waits.
    pub fn activate_keys(&self, index: u32, epoch: Epoch) -> Result<(), EngineError> {
        let tunnel = self.tunnel(index)?;
        let mut sending = tunnel.command();
        sending
            .sealer
            .activate(epoch)
            .map_err(|_| EngineError::NoKeys)?;
        if let Some(active) = sending.sealer.active() {
            sending.log.begin_epoch(active);
        }
        sending.told_due = false;
        drop(sending);
        self.release(&tunnel);
        Ok(())
    }

    /// Erases the keys of `epoch`.
    pub fn retire_keys(&self, index: u32, epoch: Epoch) -> Result<(), EngineError> {
        let tunnel = self.tunnel(index)?;
        tunnel.receiving().opener.retire(epoch);
        tunnel.command().sealer.retire(epoch);
        Ok(())
    }

    /// Opens `count` IPv4 sockets for one tunnel, numbered from `first` (not 0) on;
    /// returns their descriptors, which stay the engine's. As many as the process
    /// has descriptors left for; capsules of other tunnels are not taken there.
    pub fn open_sockets(
        &self,
        index: u32,
        first: u32,
        count: u32,
    ) -> Result<Vec<RawFd>, EngineError> {
        let tunnel = self.tunnel(index)?;
        let opened: Vec<_> = (first.max(1)..first.max(1) + count)
            .map_while(|number| {
                let socket = Socket::another().ok()?;
                Some(Arc::new(Own {
                    index,
                    number,
                    socket,
                }))
            })
            .collect();
        self.change_sockets(&tunnel, |own| own.extend(opened.iter().cloned()));
        Ok(opened.iter().map(|own| own.fd()).collect())
    }

    /// Closes a tunnel's own sockets but those of the numbers in `keep`.
    pub fn close_sockets(&self, index: u32, keep: &[u32]) -> Result<(), EngineError> {
        let tunnel = self.tunnel(index)?;
        self.change_sockets(&tunnel, |own| own.retain(|own| keep.contains(&own.number)));
        Ok(())
    }

    /// Sends capsules to `destination` through `interface` (0: the system's
    /// choice) from now on, inner packets of at most `mtu` bytes, and what waits;
    /// from `socket` of the tunnel's own (0: the engine's port); with `hold` data
    /// only after [`Engine::resend`] or another path.
    pub fn set_path(
        &self,
        index: u32,
        destination: SocketAddr,
        interface: u32,
        mtu: u16,
        socket: u32,
        hold: bool,
    ) -> Result<(), EngineError> {
        let tunnel = self.tunnel(index)?;
        let path = Path {
            destination,
            interface,
            mtu,
            socket,
        };
        tunnel.set_path(Some(path), if hold { Gate::Held } else { Gate::Open });
        Sender::for_command(&self.shared, &tunnel).let_go();
        self.release(&tunnel);
        Ok(())
    }

    /// Keeps packets, as far as the log has room, until there is a path again.
    pub fn clear_path(&self, index: u32) -> Result<(), EngineError> {
        self.tunnel(index)?.set_path(None, Gate::Nowhere);
        Ok(())
    }

    /// Seals and sends a control message, to `to` from `socket`, or along the
    /// path; false when there is no active key or no path.
    pub fn send_control(
        &self,
        index: u32,
        payload: &[u8],
        to: Option<(SocketAddr, u32)>,
        socket: u32,
    ) -> Result<bool, EngineError> {
        let tunnel = self.tunnel(index)?;
        let path = to.map(|(destination, interface)| Path {
            destination,
            interface,
            mtu: 0,
            socket,
        });
        Ok(Sender::for_command(&self.shared, &tunnel).control(payload, path))
    }

    /// What was received through a tunnel; none before the first capsule.
    pub fn receive_state(&self, index: u32) -> Result<Option<ReceiveState>, EngineError> {
        Ok(self.tunnel(index)?.receiving().opener.receive_state())
    }

    /// Sends again along the path what the peer that reported `told` misses,
    /// and what was held; how many capsules.
    pub fn resend(&self, index: u32, told: &[&ReceiveState]) -> Result<usize, EngineError> {
        let tunnel = self.tunnel(index)?;
        Ok(Sender::for_command(&self.shared, &tunnel).resend(told))
    }

    /// Gives back the memory that a silent tunnel does not need.
    pub fn shrink(&self, index: u32) -> Result<(), EngineError> {
        self.tunnel(index)?.command().log.shrink();
        Ok(())
    }

    /// Replaces what lies beyond peers, each network with the virtual address of
    /// the peer that leads there, and what lies behind this node for the peers
    /// whose IPv6 addresses lie in `guests`.
    pub fn set_networks(
        &self,
        beyond: Vec<(Network, IpAddr)>,
        behind: Vec<Network>,
        guests: Option<Network>,
    ) {
        let networks = Arc::new(Networks::new(beyond, behind, guests));
        self.shared.present.change(|view| view.networks = networks);
    }

    /// Tells the applications whose packets wait for `destination` that it is
    /// prohibited.
    pub fn refuse(&self, destination: IpAddr) {
        outgoing::refuse(&self.shared, destination);
    }

    /// What passed through a tunnel.
    pub fn statistics(&self, index: u32) -> Result<Statistics, EngineError> {
        Ok(self.tunnel(index)?.statistics(self.shared.now_ns()))
    }

    /// What was dropped, refused or failed, by reason.
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        self.shared.counters.read()
    }

    /// Capsules of one epoch after which [`Signal::RekeyDue`] comes.
    pub fn set_rekey_after(&self, capsules: u64) {
        self.shared.rekey_after.store(capsules, Ordering::Relaxed);
    }

    /// Ends both loops. The port closes when the engine is dropped.
    pub fn close(&self) {
        self.detach();
        self.shared.stopped.store(true, Ordering::Relaxed);
        self.shared.kick.set();
        if let Some(receiver) = lock(&self.receiver).take() {
            let _ = receiver.join();
        }
    }

    /// Both loops see the same sockets of a tunnel's own.
    fn change_sockets(&self, tunnel: &Tunnel, edit: impl FnOnce(&mut Vec<Arc<Own>>)) {
        let mut sending = tunnel.command();
        edit(&mut sending.own);
        let own = sending.own.clone();
        drop(sending);
        self.shared.present.change(|view| {
            view.own.retain(|other| other.index != tunnel.index);
            view.own.extend(own);
        });
        self.shared.kick.set();
    }

    fn set_device(&self, device: Option<Arc<Device>>) {
        self.shared.present.change(|view| view.device = device);
        self.shared.kick.set();
    }

    fn tunnel(&self, index: u32) -> Result<Arc<Tunnel>, EngineError> {
        let view = self.shared.present.get();
        view.tunnels
            .get(&index)
            .cloned()
            .ok_or(EngineError::UnknownTunnel)
    }

    fn release(&self, tunnel: &Tunnel) {
        if tunnel.command().is_up() {
            let early = tunnel.receiving().early.take(self.shared.now_ns());
            self.shared.ripen(early);
            outgoing::release(&self.shared, tunnel);
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.close();
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.into()).spawn(run)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
