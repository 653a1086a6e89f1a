//! The receiving half of a tunnel's keys.

use crate::aead::{Cipher, KEY, Key};
use crate::header::{EPOCHS, Epoch, Header};
use crate::window::{Verdict, Window};

/// Opens capsules of every epoch that has keys, each of them once.
#[derive(Default)]
pub struct Opener {
    epochs: [Option<Box<Opening>>; EPOCHS],
    installed: u32,
}

struct Opening {
    key: Key,
    window: Window,
    order: u32,
}

/// An authentic capsule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Length of the content in bytes.
    pub length: usize,
    /// It is newer than every capsule before, in the newest epoch heard.
    pub newest: bool,
}

/// Why a capsule was refused; always the sender's fault or the network's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No capsule, or of a form that does not exist.
    Malformed,
    /// For another tunnel.
    Stranger,
    /// No keys in its epoch.
    UnknownEpoch,
    /// Received before.
    Replayed,
    /// Too far behind the newest to tell.
    TooOld,
    /// Not sealed with our keys, or changed on the way.
    Forged,
}

impl Refusal {
    /// Its name in counters and errors.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Stranger => "stranger",
            Self::UnknownEpoch => "unknown_epoch",
            Self::Replayed => "replayed",
            Self::TooOld => "too_old",
            Self::Forged => "forged",
        }
    }
}

/// What was received in the newest epoch, as Path Update carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiveState {
    /// The newest epoch that a capsule was received in.
    pub epoch: Epoch,
    /// The highest counter received in it.
    pub highest: u64,
    /// Bit k, lowest first, says whether highest - k was received; what lies
    /// beyond the last byte was. At most 1024 bytes.
    pub bitmap: Vec<u8>,
}

impl Opener {
    /// Puts keys into `epoch`, whatever it held.
    pub fn install(&mut self, epoch: Epoch, cipher: Cipher, key: &[u8; KEY]) {
        self.installed += 1;
        self.epochs[epoch.slot()] = Some(Box::new(Opening {
            key: Key::new(cipher, key),
            window: Window::default(),
            order: self.installed,
        }));
    }

    /// Erases the keys of `epoch`.
    pub fn retire(&mut self, epoch: Epoch) {
        self.epochs[epoch.slot()] = None;
    }

    /// Opens `capsule`, whose decoded header is `header`, into the front of
    /// `content`, which must be as long as the capsule without its overhead.
    pub fn open(
        &mut self,
        header: &Header,
        capsule: &[u8],
        content: &mut [u8],
    ) -> Result<Opened, Refusal> {
        let opening = self.epochs[header.epoch.slot()]
            .as_mut()
            .ok_or(Refusal::UnknownEpoch)?;
        let verdict = opening.window.judge(header.counter);
        match verdict {
            Verdict::Newest | Verdict::Late => {}
            Verdict::Replayed => return Err(Refusal::Replayed),
            Verdict::TooOld => return Err(Refusal::TooOld),
        }
        let length = opening
            .key
            .open(header.counter, capsule, content)
            .ok_or(Refusal::Forged)?;
        opening.window.accept(header.counter);
        let order = opening.order;
        let newest =
            verdict == Verdict::Newest && self.newest().is_none_or(|(_, o)| o.order <= order);
        Ok(Opened { length, newest })
    }

    /// What was received so far; none before the first capsule.
    pub fn receive_state(&self) -> Option<ReceiveState> {
        let (epoch, opening) = self.newest()?;
        Some(ReceiveState {
            epoch,
            highest: opening.window.highest()?,
            bitmap: opening.window.bitmap(),
        })
    }

    fn newest(&self) -> Option<(Epoch, &Opening)> {
        self.epochs
            .iter()
            .zip(0..)
            .filter_map(|(opening, number)| Some((Epoch::new(number)?, opening.as_deref()?)))
            .filter(|(_, opening)| opening.window.highest().is_some())
            .max_by_key(|(_, opening)| opening.order)
    }
}
