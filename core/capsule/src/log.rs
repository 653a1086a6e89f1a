//! The capsules of about the last round trip, kept as they were sent.
//!
//! A capsule is sealed right in here and sent from here, so keeping it costs
//! no copy. Consecutive capsules of one length form a run, which one system
//! call sends (UDP_SEGMENT). Source: docs/protocol.md section 8.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::flows::{Flows, Position};
use crate::header::{EPOCHS, Epoch};
use crate::opener::ReceiveState;

/// Most capsules of one run: what every kernel with UDP_SEGMENT takes.
pub const MOST_RUN_CAPSULES: usize = 64;
/// Most bytes of one run, so that it fits one UDP datagram of either family.
pub const MOST_RUN_BYTES: usize = 65_000;

/// Most that one tunnel keeps, in bytes: 0.4 s of 20 MB/s, and with full packets
/// no more than the peer's window takes.
const MOST: usize = 8 << 20;
const CHUNK: usize = 256 << 10;
/// The first chunk, all that most tunnels ever need.
const FIRST_CHUNK: usize = 16 << 10;

/// How much all logs together may keep; shared by them.
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    most: usize,
}

/// A bounded log of sealed capsules, oldest given up first, but never the
/// newest capsule of one of the last 256 flows.
pub struct Log {
    chunks: VecDeque<Chunk>,
    open: bool,
    flows: Flows,
    generations: [u32; EPOCHS],
    budget: Arc<Budget>,
}

struct Chunk {
    bytes: Box<[u8]>,
    used: usize,
    runs: Vec<Run>,
}

#[derive(Clone, Copy)]
struct Run {
    first: Position,
    count: usize,
    at: usize,
    stride: usize,
    length: usize,
}

/// Capsules to send again: each `stride` bytes but the last, which may be shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing<'a> {
    /// The capsules, one after the other.
    pub bytes: &'a [u8],
    /// Length of each but the last.
    pub stride: usize,
}

impl Budget {
    /// At most `bytes` for all logs; beyond it each log gets one chunk, of at
    /// most 256 KiB.
    pub fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            used: AtomicUsize::new(0),
            most: bytes,
        })
    }

    fn take(&self, bytes: usize) -> bool {
        let granted = self.used.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.most;
        if !granted {
            self.give_back(bytes);
        }
        granted
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Log {
    /// An empty log, without memory until the first capsule.
    pub fn new(budget: &Arc<Budget>) -> Self {
        Self {
            chunks: VecDeque::new(),
            open: false,
            flows: Flows::default(),
            generations: [0; EPOCHS],
            budget: Arc::clone(budget),
        }
    }

    /// A capsule of `length` bytes with `counter` continues the open run.
    pub fn joins(&self, length: usize, counter: u64) -> bool {
        let (true, Some(chunk)) = (self.open, self.chunks.back()) else {
            return false;
        };
        chunk
            .runs
            .last()
            .is_some_and(|run| run.joins(length, counter))
            && chunk.has_room(length)
    }

    /// Room for one capsule of `length` bytes, behind the open run if there is
    /// one; then seal into it and call [`Log::commit`].
    ///
    /// # Panics
    /// When `length` is above [`MOST_RUN_BYTES`].
    pub fn place(&mut self, length: usize) -> &mut [u8] {
        assert!(length <= MOST_RUN_BYTES, "a capsule outgrows a datagram");
        if !self.chunks.back().is_some_and(|last| last.has_room(length)) {
            self.begin_chunk(length);
        }
        let chunk = self.chunks.back_mut().expect("one was begun");
        &mut chunk.bytes[chunk.used..][..length]
    }

    /// The room of `length` bytes that [`Log::place`] gave holds the capsule
    /// `counter` of the epoch and generation `active`, the newest of `flow`.
    pub fn commit(&mut self, length: usize, counter: u64, active: (Epoch, u32), flow: u32) {
        let (epoch, generation) = active;
        let position = Position {
            generation,
            counter,
            epoch,
        };
        let joins = self.joins(length, counter);
        let chunk = self.chunks.back_mut().expect("place came before");
        match chunk.runs.last_mut().filter(|_| joins) {
            Some(run) => run.extend(length),
            None => chunk.runs.push(Run::new(position, chunk.used, length)),
        }
        chunk.used += length;
        self.open = true;
        self.generations[epoch.slot()] = generation;
        self.flows.note(flow, position);
    }

    /// From now on `active` seals, perhaps only what is not kept here: a peer that reports this
    /// epoch misses nothing of those before.
    pub fn begin_epoch(&mut self, (epoch, generation): (Epoch, u32)) {
        self.generations[epoch.slot()] = generation;
    }

    /// What was committed since [`Log::close_run`]: to be sent as one.
    pub fn open_run(&self) -> Option<Missing<'_>> {
        let chunk = self.chunks.back().filter(|_| self.open)?;
        Some(chunk.whole(chunk.runs.last()?))
    }

    /// The open run is sent; the next capsule begins another.
    pub fn close_run(&mut self) {
        self.open = false;
    }

    /// What the peer that reported `told` has not received, oldest first: what
    /// each of those epochs misses, and everything of epochs later than the
    /// oldest of them that it did not tell of.
    pub fn missing<'a>(&'a self, told: &[&ReceiveState]) -> Vec<Missing<'a>> {
        let generation = |state: &ReceiveState| self.generations[state.epoch.slot()];
        let wanted = Wanted(told.iter().map(|&told| (generation(told), told)).collect());
        let kept = self.flows.iter().filter_map(|newest| {
            let bytes = newest.kept.as_deref()?;
            wanted.includes(newest.position).then_some(Missing {
                bytes,
                stride: bytes.len(),
            })
        });
        let logged = self
            .chunks
            .iter()
            .flat_map(|chunk| chunk.runs.iter().map(move |run| (chunk, run)))
            .flat_map(|(chunk, run)| chunk.missing(run, &wanted));
        kept.chain(logged).collect()
    }

    /// Gives back all memory but the last chunk's and the newest capsules of
    /// the flows: for a tunnel that has fallen silent.
    pub fn shrink(&mut self) {
        while self.chunks.len() > 1 {
            self.give_up_oldest();
        }
    }

    /// Makes room for `length` bytes behind everything else.
    fn begin_chunk(&mut self, length: usize) {
        self.open = false;
        let size = if self.chunks.is_empty() {
            FIRST_CHUNK.max(length)
        } else {
            CHUNK
        };
        let kept: usize = self.chunks.iter().map(|chunk| chunk.bytes.len()).sum();
        let granted = kept + size <= MOST && self.budget.take(size);
        let recycled = if granted { None } else { self.give_up_oldest() };
        let chunk = match recycled.filter(|oldest| oldest.bytes.len() >= size) {
            Some(oldest) => oldest,
            None => Chunk::new(size),
        };
        if !granted {
            // What was given up makes room, or it is the chunk beyond the budget.
            self.budget
                .used
                .fetch_add(chunk.bytes.len(), Ordering::Relaxed);
        }
        self.chunks.push_back(chunk);
    }

    /// The oldest chunk, empty and no more counted; none when there is none.
    fn give_up_oldest(&mut self) -> Option<Chunk> {
        let mut oldest = self.chunks.pop_front()?;
        self.keep_newest(&oldest);
        self.budget.give_back(oldest.bytes.len());
        oldest.clear();
        Some(oldest)
    }

    fn keep_newest(&mut self, leaving: &Chunk) {
        for newest in self.flows.iter_mut() {
            if newest.kept.is_none() {
                newest.kept = leaving.find(newest.position).map(Box::from);
            }
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let kept = self.chunks.iter().map(|chunk| chunk.bytes.len()).sum();
        self.budget.give_back(kept);
    }
}

impl Chunk {
    fn new(size: usize) -> Self {
        Self {
            // Zeroed memory of a large size costs nothing until it is touched.
            bytes: vec![0; size].into_boxed_slice(),
            used: 0,
            runs: Vec::new(),
        }
    }

    fn has_room(&self, length: usize) -> bool {
        self.used + length <= self.bytes.len()
    }

    fn clear(&mut self) {
        self.used = 0;
        self.runs.clear();
    }

    fn whole(&self, run: &Run) -> Missing<'_> {
        self.part(run, 0, run.count)
    }

    /// Capsules `from..to` of `run`.
    fn part(&self, run: &Run, from: usize, to: usize) -> Missing<'_> {
        let end = (to * run.stride).min(run.length);
        Missing {
            bytes: &self.bytes[run.at + from * run.stride..run.at + end],
            stride: run.stride,
        }
    }

    fn find(&self, position: Position) -> Option<&[u8]> {
        let run = self.runs.iter().find(|run| run.holds(position))?;
        let at = (position.counter - run.first.counter) as usize;
        Some(self.part(run, at, at + 1).bytes)
    }

    /// The longest stretches of `run` that are wanted.
    fn missing<'a>(&'a self, run: &Run, wanted: &Wanted<'_>) -> Vec<Missing<'a>> {
        let mut stretches = Vec::new();
        let mut at = 0;
        while at < run.count {
            let length = (at..run.count)
                .take_while(|&at| wanted.includes(run.position(at)))
                .count();
            if length > 0 {
                stretches.push(self.part(run, at, at + length));
            }
            at += length + 1;
        }
        stretches
    }
}

impl Run {
    fn new(first: Position, at: usize, length: usize) -> Self {
        Self {
            first,
            count: 1,
            at,
            stride: length,
            length,
        }
    }

    fn joins(&self, length: usize, counter: u64) -> bool {
        self.length == self.count * self.stride
            && length <= self.stride
            && self.count < MOST_RUN_CAPSULES
            && self.length + length <= MOST_RUN_BYTES
            && self.first.counter + self.count as u64 == counter
    }

    fn extend(&mut self, length: usize) {
        self.count += 1;
        self.length += length;
    }

    fn position(&self, at: usize) -> Position {
        Position {
            counter: self.first.counter + at as u64,
            ..self.first
        }
    }

    fn holds(&self, position: Position) -> bool {
        let span = self.first.counter..self.first.counter + self.count as u64;
        position.generation == self.first.generation && span.contains(&position.counter)
    }
}

/// What the peer told, each with the generation of its epoch.
struct Wanted<'s>(Vec<(u32, &'s ReceiveState)>);

impl Wanted<'_> {
    fn includes(&self, position: Position) -> bool {
        let Self(told) = self;
        let same = |(generation, _): &&(u32, _)| *generation == position.generation;
        let Some((_, state)) = told.iter().find(same) else {
            let oldest = told.iter().map(|(generation, _)| *generation).min();
            return oldest.is_some_and(|oldest| position.generation > oldest);
        };
        let Some(back) = state.highest.checked_sub(position.counter) else {
            return true;
        };
        let byte = usize::try_from(back / 8)
            .ok()
            .and_then(|at| state.bitmap.get(at));
        byte.is_some_and(|byte| byte >> (back % 8) & 1 == 0)
    }
}
