//! What exists: the tunnels and the packet device. The loops read a snapshot
//! without a lock; Python's rare changes make a new one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::device::Device;
use crate::networks::Networks;
use crate::own::Own;
use crate::tunnel::Tunnel;

/// One state of affairs.
#[derive(Clone, Default)]
pub(crate) struct View {
    /// By the index that capsules to us carry.
    pub tunnels: HashMap<u32, Arc<Tunnel>>,
    /// By the peer's virtual addresses.
    pub destinations: HashMap<IpAddr, Arc<Tunnel>>,
    /// Where inner packets come from and go to.
    pub device: Option<Arc<Device>>,
    /// Sockets that tunnels have of their own.
    pub own: Vec<Arc<Own>>,
    /// What lies beyond the peers, and behind this node.
    pub networks: Arc<Networks>,
}

/// The present view and its version.
#[derive(Default)]
pub(crate) struct Present {
    view: Mutex<Arc<View>>,
    version: AtomicU64,
}

/// A loop's own copy of the present view.
pub(crate) struct Seen {
    pub view: Arc<View>,
    version: u64,
}

impl Present {
    pub(crate) fn get(&self) -> Arc<View> {
        Arc::clone(&self.view.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the view by one that `edit` changed, and returns its result.
    pub(crate) fn change<T>(&self, edit: impl FnOnce(&mut View) -> T) -> T {
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = View::clone(&view);
        let result = edit(&mut next);
        *view = Arc::new(next);
        self.version.fetch_add(1, Ordering::Release);
        result
    }

    pub(crate) fn see(&self) -> Seen {
        // The version first: a change in between is then seen as one more.
        let version = self.version.load(Ordering::Acquire);
        Seen {
            view: self.get(),
            version,
        }
    }
}

impl Seen {
    /// Looks again, if anything changed; costs one load otherwise.
    pub(crate) fn refresh(&mut self, present: &Present) {
        if present.version.load(Ordering::Acquire) != self.version {
            *self = present.see();
        }
    }
}

impl View {
    pub(crate) fn add(&mut self, tunnel: Arc<Tunnel>) {
        for address in destinations(&tunnel) {
            self.destinations.insert(address, Arc::clone(&tunnel));
        }
        self.tunnels.insert(tunnel.index, tunnel);
    }

    /// The virtual address that a packet to `host` goes to.
    pub(crate) fn towards(&self, host: IpAddr) -> IpAddr {
        if self.destinations.contains_key(&host) {
            return host;
        }
        self.networks.gateway(host).unwrap_or(host)
    }

    pub(crate) fn remove(&mut self, index: u32) -> Option<Arc<Tunnel>> {
        let tunnel = self.tunnels.remove(&index)?;
        self.own.retain(|own| own.index != index);
        self.destinations
            .retain(|_, other| !Arc::ptr_eq(other, &tunnel));
        Some(tunnel)
    }
}

/// The virtual addresses that `tunnel` leads to.
pub(crate) fn destinations(tunnel: &Tunnel) -> [IpAddr; 2] {
    [
        tunnel.addresses.peer_v4.into(),
        tunnel.addresses.peer_v6.into(),
    ]
}
