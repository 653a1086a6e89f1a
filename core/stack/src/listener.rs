//! Connections that wait to be accepted.

use std::collections::{HashSet, VecDeque};

/// A TCP port on which peers may connect.
#[derive(Debug)]
pub(crate) struct Listener {
    pub id: u64,
    pub port: u16,
    /// So many connections wait at most, standing or not.
    backlog: usize,
    coming: HashSet<u64>,
    standing: VecDeque<u64>,
}

impl Listener {
    pub(crate) fn new(id: u64, port: u16, backlog: usize) -> Self {
        Self {
            id,
            port,
            backlog: backlog.max(1),
            coming: HashSet::new(),
            standing: VecDeque::new(),
        }
    }

    pub(crate) fn has_room(&self) -> bool {
        self.coming.len() + self.standing.len() < self.backlog
    }

    pub(crate) fn begin(&mut self, connection: u64) {
        self.coming.insert(connection);
    }

    /// True when it is new that it stands.
    pub(crate) fn stands(&mut self, connection: u64) -> bool {
        let new = self.coming.remove(&connection);
        if new {
            self.standing.push_back(connection);
        }
        new
    }

    /// It ended before anybody accepted it.
    pub(crate) fn forget(&mut self, connection: u64) {
        self.coming.remove(&connection);
        self.standing.retain(|each| *each != connection);
    }

    pub(crate) fn accept(&mut self) -> Option<u64> {
        self.standing.pop_front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.standing.is_empty()
    }

    /// Everything that waits.
    pub(crate) fn all(&self) -> Vec<u64> {
        self.coming.iter().chain(&self.standing).copied().collect()
    }
}
