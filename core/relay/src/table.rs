//! Where a capsule goes: `(source address, receiver index) -> destination`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::path::Path;

/// A source address and the receiver index its capsules carry.
type Key = (SocketAddr, u32);

/// Where the capsules of one source and index go.
#[derive(Clone, Debug)]
pub struct Binding {
    /// The other end of the path.
    pub destination: SocketAddr,
    /// Number of the path, as the Relay Direction named it.
    pub path: u128,
    /// Its limit and account.
    pub usage: Arc<Path>,
}

/// All bindings of a relay, and the paths they belong to. Pure.
#[derive(Debug, Default)]
pub struct Table {
    /// Looked up for every capsule; a fast hash will do, as only authenticated
    /// ends are ever inserted.
    bindings: HashMap<Key, Binding, foldhash::quality::RandomState>,
    paths: HashMap<u128, Route>,
}

#[derive(Debug, Default)]
struct Route {
    usage: Arc<Path>,
    keys: Vec<Key>,
}

impl Table {
    /// Sends capsules for `index` from `source` to `destination`, or moves them
    /// there, and limits the path to `rate` bytes per second (0: no limit).
    /// False, and nothing changed, when another path has this index there.
    pub fn bind(
        &mut self,
        (source, index): Key,
        destination: SocketAddr,
        path: u128,
        rate: u64,
    ) -> bool {
        let entry = self.bindings.entry((source, index));
        if matches!(&entry, Entry::Occupied(bound) if bound.get().path != path) {
            return false;
        }
        let route = self.paths.entry(path).or_default();
        route.usage.limit(rate);
        if matches!(entry, Entry::Vacant(_)) {
            route.keys.push((source, index));
        }
        let usage = Arc::clone(&route.usage);
        entry.insert_entry(Binding {
            destination,
            path,
            usage,
        });
        true
    }

    /// Forgets one binding; the path and its account stay. False when there
    /// was none.
    pub fn unbind(&mut self, key: Key) -> bool {
        let Some(binding) = self.bindings.remove(&key) else {
            return false;
        };
        if let Some(route) = self.paths.get_mut(&binding.path) {
            route.keys.retain(|other| *other != key);
        }
        true
    }

    /// Forgets a path, its account and all its bindings; returns how many.
    pub fn forget(&mut self, path: u128) -> usize {
        let keys = self
            .paths
            .remove(&path)
            .map(|route| route.keys)
            .unwrap_or_default();
        for key in &keys {
            self.bindings.remove(key);
        }
        keys.len()
    }

    /// Where capsules of this source and index go.
    pub fn find(&self, source: SocketAddr, index: u32) -> Option<&Binding> {
        self.bindings.get(&(source, index))
    }

    /// The account of a path; None when it is unknown.
    pub fn path(&self, path: u128) -> Option<&Path> {
        self.paths.get(&path).map(|route| &*route.usage)
    }

    /// How many bindings there are.
    pub fn len(&self) -> usize {
        self.bindings.len()
    }

    /// There is no binding.
    pub fn is_empty(&self) -> bool {
        self.bindings.is_empty()
    }
}
