//! The newest capsule of each of the last 256 flows.

use crate::header::Epoch;

/// Sets of four places; a flow lives in the set its hash names.
const SETS: usize = 64;
const WAYS: usize = 4;

/// Which capsule: its epoch, how many epochs were active up to it, its counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub generation: u32,
    pub counter: u64,
    pub epoch: Epoch,
}

/// Remembers, for each recent flow, the newest capsule; a copy of its bytes
/// only once the log lets go of them.
#[derive(Default)]
pub(crate) struct Flows(Vec<[Option<Newest>; WAYS]>);

pub(crate) struct Newest {
    flow: u32,
    pub position: Position,
    pub kept: Option<Box<[u8]>>,
}

impl Position {
    fn age(self) -> (u32, u64) {
        (self.generation, self.counter)
    }
}

impl Flows {
    /// `position` is now the newest of `flow`; the flow silent for longest
    /// makes room.
    pub(crate) fn note(&mut self, flow: u32, position: Position) {
        if self.0.is_empty() {
            self.0.resize_with(SETS, Default::default);
        }
        let set = &mut self.0[flow as usize % SETS];
        let place = place(set, flow);
        set[place] = Some(Newest {
            flow,
            position,
            kept: None,
        });
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Newest> {
        self.0.iter().flatten().flatten()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Newest> {
        self.0.iter_mut().flatten().flatten()
    }
}

fn place(set: &[Option<Newest>; WAYS], flow: u32) -> usize {
    let same = |place: &Option<Newest>| place.as_ref().is_some_and(|newest| newest.flow == flow);
    if let Some(place) = set.iter().position(same) {
        return place;
    }
    let age = |at: &usize| set[*at].as_ref().map(|newest| newest.position.age());
    (0..WAYS).min_by_key(age).unwrap_or(0)
}
