//! The sending half of a tunnel's keys.

use crate::aead::{Cipher, KEY, Key};
use crate::header::{EPOCHS, Epoch, Form, Header};

/// Seals capsules with the keys of the active epoch.
#[derive(Default)]
pub struct Sealer {
    epochs: [Option<Sealing>; EPOCHS],
    active: Option<Active>,
    generation: u32,
}

struct Sealing {
    key: Key,
    remote_index: u32,
    counter: u64,
}

#[derive(Clone, Copy)]
struct Active {
    epoch: Epoch,
    generation: u32,
}

/// The caller asked for an epoch that holds no keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotReady;

impl Sealer {
    /// Puts keys into `epoch`, whatever it held; the counter starts at 0.
    /// `remote_index` is the peer's index of this tunnel. An epoch that is
    /// active and gets new keys stops being active.
    pub fn install(&mut self, epoch: Epoch, cipher: Cipher, key: &[u8; KEY], remote_index: u32) {
        self.retire(epoch);
        self.epochs[epoch.slot()] = Some(Sealing {
            key: Key::new(cipher, key),
            remote_index,
            counter: 0,
        });
    }

    /// Seals with `epoch` from now on.
    pub fn activate(&mut self, epoch: Epoch) -> Result<(), NotReady> {
        if self.epochs[epoch.slot()].is_none() {
            return Err(NotReady);
        }
        if self.active.is_none_or(|active| active.epoch != epoch) {
            self.generation += 1;
            let generation = self.generation;
            self.active = Some(Active { epoch, generation });
        }
        Ok(())
    }

    /// Erases the keys of `epoch`; if it was active nothing can be sealed.
    pub fn retire(&mut self, epoch: Epoch) {
        self.epochs[epoch.slot()] = None;
        if self.active.is_some_and(|active| active.epoch == epoch) {
            self.active = None;
        }
    }

    /// A capsule can be sealed.
    pub fn is_ready(&self) -> bool {
        self.active.is_some()
    }

    /// The active epoch, and how many epochs were active before and with it.
    pub fn active(&self) -> Option<(Epoch, u32)> {
        self.active.map(|active| (active.epoch, active.generation))
    }

    /// How many capsules the active epoch has sealed: the next counter.
    pub fn sealed(&self) -> u64 {
        self.sealing().map_or(0, |sealing| sealing.counter)
    }

    /// Seals in place: `capsule` has its content after the first
    /// [`HEADER`](crate::HEADER) bytes and room for the tag behind. Returns the counter.
    pub fn seal(&mut self, form: Form, capsule: &mut [u8]) -> Result<u64, NotReady> {
        let epoch = self.active.ok_or(NotReady)?.epoch;
        let sealing = self.epochs[epoch.slot()].as_mut().ok_or(NotReady)?;
        let counter = sealing.counter;
        // A counter that came round would use a nonce twice.
        sealing.counter = counter.checked_add(1).ok_or(NotReady)?;
        let header = Header {
            epoch,
            form,
            index: sealing.remote_index,
            counter,
        };
        capsule[..crate::HEADER].copy_from_slice(&header.encode());
        sealing.key.seal(counter, capsule);
        Ok(counter)
    }

    fn sealing(&self) -> Option<&Sealing> {
        self.epochs[self.active?.epoch.slot()].as_ref()
    }
}
