//! Who is where: what a packet's addresses and ports find.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smoltcp::time::Instant;

use crate::connection::Connection;
use crate::datagrams::Datagrams;
use crate::failure::Failure;
use crate::listener::Listener;
use crate::packet::Pair;

/// Inner bytes that every path carries. Source: RFC 8200 section 5.
pub(crate) const LEAST_MTU: usize = 1280;
const EPHEMERAL: std::ops::RangeInclusive<u16> = 32_768..=60_999;

/// A connection, and when it is to be looked at.
pub(crate) struct Entry {
    pub id: u64,
    pub listener: Option<u64>,
    connection: Mutex<(Connection, Option<Instant>)>,
}

/// A UDP port that somebody has.
pub(crate) struct Port {
    pub id: u64,
    pub number: u16,
    pub queue: Mutex<Datagrams>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Table {
    pub addresses: Vec<IpAddr>,
    pub connections: HashMap<Pair, Arc<Entry>>,
    pub entries: HashMap<u64, Arc<Entry>>,
    pub listeners: HashMap<u16, Listener>,
    pub ports: HashMap<u16, Arc<Port>>,
    port_numbers: HashMap<u64, u16>,
    mtus: HashMap<IpAddr, usize>,
}

impl Entry {
    pub(crate) fn new(id: u64, listener: Option<u64>, connection: Connection) -> Arc<Self> {
        Arc::new(Self {
            id,
            listener,
            connection: Mutex::new((connection, None)),
        })
    }

    /// The connection, and the next time it is due by the timers.
    pub(crate) fn lock(&self) -> MutexGuard<'_, (Connection, Option<Instant>)> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Port {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Datagrams> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// This node's address for talking to `remote`.
    pub(crate) fn local(&self, remote: IpAddr) -> Result<IpAddr, Failure> {
        let mut own = self.addresses.iter();
        own.find(|each| each.is_ipv4() == remote.is_ipv4())
            .copied()
            .ok_or(Failure::NoAddress)
    }

    pub(crate) fn mtu(&self, remote: IpAddr) -> usize {
        self.mtus.get(&remote).copied().unwrap_or(LEAST_MTU)
    }

    pub(crate) fn set_mtu(&mut self, remote: IpAddr, mtu: usize) {
        self.mtus.insert(remote, mtu.max(LEAST_MTU));
    }

    pub(crate) fn add(&mut self, pair: Pair, entry: &Arc<Entry>) {
        self.connections.insert(pair, Arc::clone(entry));
        self.entries.insert(entry.id, Arc::clone(entry));
    }

    pub(crate) fn remove(&mut self, pair: Pair, id: u64) {
        self.entries.remove(&id);
        // The same two ends may have met again.
        if self
            .connections
            .get(&pair)
            .is_some_and(|entry| entry.id == id)
        {
            self.connections.remove(&pair);
        }
    }

    /// Both ends of a new connection to `remote`; `start` chooses the port.
    pub(crate) fn pair(&self, remote: SocketAddr, start: u64) -> Result<Pair, Failure> {
        let local = self.local(remote.ip())?;
        free(start, |port| {
            let local = SocketAddr::new(local, port);
            let pair = Pair { local, remote };
            // A port is not its own peer.
            let usable = local != remote && !self.connections.contains_key(&pair);
            usable.then_some(pair)
        })
    }

    /// The UDP port that `id` has.
    pub(crate) fn port(&self, id: u64) -> Result<&Arc<Port>, Failure> {
        let number = self.port_numbers.get(&id);
        let port = number.and_then(|number| self.ports.get(number));
        port.ok_or(Failure::NotConnected)
    }

    pub(crate) fn take_port(&mut self, id: u64, number: u16) -> Result<(), Failure> {
        if self.ports.contains_key(&number) {
            return Err(Failure::InUse);
        }
        let queue = Mutex::new(Datagrams::default());
        self.ports
            .insert(number, Arc::new(Port { id, number, queue }));
        self.port_numbers.insert(id, number);
        Ok(())
    }

    pub(crate) fn free_port_of(&mut self, id: u64) {
        if let Some(number) = self.port_numbers.remove(&id) {
            self.ports.remove(&number);
        }
    }

    /// A UDP port that nobody has.
    pub(crate) fn free_port(&self, start: u64) -> Result<u16, Failure> {
        free(start, |port| {
            (!self.ports.contains_key(&port)).then_some(port)
        })
    }

    /// A TCP port on which nobody listens.
    pub(crate) fn free_listener(&self, start: u64) -> Result<u16, Failure> {
        free(start, |port| {
            (!self.listeners.contains_key(&port)).then_some(port)
        })
    }
}

fn free<T>(start: u64, usable: impl Fn(u16) -> Option<T>) -> Result<T, Failure> {
    let count = u64::from(EPHEMERAL.end() - EPHEMERAL.start()) + 1;
    (0..count)
        .map(|step| EPHEMERAL.start() + ((start % count + step) % count) as u16)
        .find_map(usable)
        .ok_or(Failure::InUse)
}
