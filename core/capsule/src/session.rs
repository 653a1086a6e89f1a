//! One tunnel: both directions' keys and the log, for drivers that send and
//! receive from one thread. The packet loops hold the parts apart.

use std::sync::Arc;

use crate::aead::{Cipher, KEY};
use crate::header::{Epoch, Form, HEADER, Header, OVERHEAD};
use crate::log::{Budget, Log, MOST_RUN_BYTES};
use crate::opener::{Opened, Opener, ReceiveState, Refusal};
use crate::sealer::{NotReady, Sealer};

/// Most bytes of content in one capsule.
pub const MOST_CONTENT: usize = MOST_RUN_BYTES - OVERHEAD;

/// Seals and opens the capsules of one tunnel.
pub struct Session {
    index: u32,
    sealer: Sealer,
    opener: Opener,
    log: Log,
}

impl Session {
    /// A session without keys; capsules to us carry `index`.
    pub fn new(index: u32, budget: &Arc<Budget>) -> Self {
        Self {
            index,
            sealer: Sealer::default(),
            opener: Opener::default(),
            log: Log::new(budget),
        }
    }

    /// Puts keys into `epoch` for both directions; seals with them only once
    /// [`Session::activate`] says so.
    pub fn install(
        &mut self,
        epoch: Epoch,
        cipher: Cipher,
        send: &[u8; KEY],
        receive: &[u8; KEY],
        remote_index: u32,
    ) {
        self.sealer.install(epoch, cipher, send, remote_index);
        self.opener.install(epoch, cipher, receive);
    }

    /// Seals with `epoch` from now on.
    pub fn activate(&mut self, epoch: Epoch) -> Result<(), NotReady> {
        self.sealer.activate(epoch)?;
        if let Some(active) = self.sealer.active() {
            self.log.begin_epoch(active);
        }
        Ok(())
    }

    /// Erases the keys of `epoch`.
    pub fn retire(&mut self, epoch: Epoch) {
        self.sealer.retire(epoch);
        self.opener.retire(epoch);
    }

    /// Seals `content`, at most [`MOST_CONTENT`] bytes; packets are kept for resending,
    /// control messages are not.
    pub fn seal(&mut self, form: Form, content: &[u8]) -> Result<Vec<u8>, NotReady> {
        let mut capsule = vec![0; content.len() + OVERHEAD];
        capsule[HEADER..][..content.len()].copy_from_slice(content);
        let counter = self.sealer.seal(form, &mut capsule)?;
        if let (true, Some(active)) = (form != Form::Control, self.sealer.active()) {
            self.log.place(capsule.len()).copy_from_slice(&capsule);
            self.log.commit(capsule.len(), counter, active, 0);
            self.log.close_run();
        }
        Ok(capsule)
    }

    /// Opens `capsule`: its header, what it proved, its content.
    pub fn open(&mut self, capsule: &[u8]) -> Result<(Header, Opened, Vec<u8>), Refusal> {
        let header = Header::decode(capsule).ok_or(Refusal::Malformed)?;
        if header.index != self.index {
            return Err(Refusal::Stranger);
        }
        let mut content = vec![0; capsule.len() - OVERHEAD];
        let opened = self.opener.open(&header, capsule, &mut content)?;
        Ok((header, opened, content))
    }

    /// What was received so far; none before the first capsule.
    pub fn receive_state(&self) -> Option<ReceiveState> {
        self.opener.receive_state()
    }

    /// The kept capsules that the peer that reported `told` misses, oldest first.
    pub fn missing(&self, told: &[&ReceiveState]) -> Vec<&[u8]> {
        self.log
            .missing(told)
            .into_iter()
            .flat_map(|missing| missing.bytes.chunks(missing.stride))
            .collect()
    }
}
