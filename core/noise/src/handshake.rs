//! One side of one handshake.

use std::fmt;

use snow::{Builder, HandshakeState};
use zeroize::Zeroizing;

use crate::resolver::Given;
use crate::wiped::Wiped;

/// Longest Noise message, in bytes. Source: Noise revision 34, section 3.
const LONGEST: usize = 65_535;
/// What a message adds to its payload: an ephemeral key and a tag.
const OVERHEAD: usize = 32 + 16;

/// Which keys the two sides have beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Both know the other's static key; the normal mode.
    KKpsk0,
    /// Neither has a static key: the pre-shared key alone proves the peer, as
    /// in the paper's password mode.
    NNpsk0,
}

/// The cipher of the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cipher {
    /// AES-256-GCM.
    AesGcm,
    /// ChaCha20-Poly1305, where an end has no AES instructions.
    ChaChaPoly,
}

/// All that a handshake starts from.
pub struct Setup<'a> {
    /// Which static keys there are.
    pub pattern: Pattern,
    /// Writes the first message; exactly one of the two sides does.
    pub initiator: bool,
    /// Same on both sides.
    pub cipher: Cipher,
    /// What both must agree on without sending it; any difference fails.
    pub prologue: &'a [u8],
    /// The pre-shared key: Ktmp, or the export of the previous epoch.
    pub psk: &'a [u8; 32],
    /// Private key made for this handshake alone, from a CSPRNG.
    pub ephemeral: &'a [u8; 32],
    /// Own static private key; with KKpsk0 only.
    pub local_private: Option<&'a [u8; 32]>,
    /// The peer's static public key; with KKpsk0 only.
    pub remote_public: Option<&'a [u8; 32]>,
}

/// The caller gave static keys that do not fit the pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetupError(&'static str);

/// Why a message could not be written or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The peer's fault: forged, damaged, or made from another key or prologue.
    Rejected,
    /// The caller's fault: the other side is next, or all is done.
    OutOfTurn,
    /// The caller's fault: the payload does not fit into a message.
    TooLong,
    /// The caller's fault: the keys are there only once both messages passed.
    Unfinished,
}

/// What a finished handshake leaves; erased on drop.
pub struct Keys {
    /// Seals what this side sends.
    pub send: Zeroizing<[u8; 32]>,
    /// Opens what this side receives.
    pub receive: Zeroizing<[u8; 32]>,
}

/// One side of one handshake of two messages.
///
/// The initiator calls `write`, then `read`; the responder the other way
/// round. Then `split` and `hash`. A message that fails changes nothing, so
/// that a forged answer cannot end the exchange with the true peer. All keys
/// are erased on drop.
pub struct Handshake(Wiped<HandshakeState>);

impl Handshake {
    /// Starts a handshake; fails when the static keys do not fit the pattern.
    pub fn new(setup: &Setup<'_>) -> Result<Self, SetupError> {
        let has_keys = (setup.local_private.is_some(), setup.remote_public.is_some());
        match (setup.pattern, has_keys) {
            (Pattern::KKpsk0, (true, true)) | (Pattern::NNpsk0, (false, false)) => {}
            (Pattern::KKpsk0, _) => return Err(SetupError("KKpsk0 needs both static keys")),
            (Pattern::NNpsk0, _) => return Err(SetupError("NNpsk0 takes no static keys")),
        }
        let state = build(setup).map_err(|_| SetupError("the suite is not available"))?;
        Ok(Self(Wiped::new(state)))
    }

    /// The next message of this side, carrying `payload`.
    pub fn write(&mut self, payload: &[u8]) -> Result<Vec<u8>, Failure> {
        if self.finished() || !self.0.is_my_turn() {
            return Err(Failure::OutOfTurn);
        }
        if payload.len() > LONGEST - OVERHEAD {
            return Err(Failure::TooLong);
        }
        let mut message = vec![0; payload.len() + OVERHEAD];
        // What is left can only fail on the peer's static key.
        let length = self
            .0
            .write_message(payload, &mut message)
            .map_err(|_| Failure::Rejected)?;
        message.truncate(length);
        Ok(message)
    }

    /// The payload of the peer's next message.
    pub fn read(&mut self, message: &[u8]) -> Result<Vec<u8>, Failure> {
        if self.finished() || self.0.is_my_turn() {
            return Err(Failure::OutOfTurn);
        }
        if !(OVERHEAD..=LONGEST).contains(&message.len()) {
            return Err(Failure::Rejected);
        }
        let mut payload = vec![0; message.len() - OVERHEAD];
        let length = self
            .0
            .read_message(message, &mut payload)
            .map_err(|_| Failure::Rejected)?;
        payload.truncate(length);
        Ok(payload)
    }

    /// Both messages passed.
    pub fn finished(&self) -> bool {
        self.0.is_handshake_finished()
    }

    /// The keys of this side, which the caller must use for one session only.
    pub fn split(&mut self) -> Result<Keys, Failure> {
        if !self.finished() {
            return Err(Failure::Unfinished);
        }
        let (first, second) = self.0.dangerously_get_raw_split();
        let (first, second) = (Zeroizing::new(first), Zeroizing::new(second));
        let (send, receive) = if self.0.is_initiator() {
            (first, second)
        } else {
            (second, first)
        };
        Ok(Keys { send, receive })
    }

    /// The hash over everything both sides agreed on; the same on both.
    pub fn hash(&self) -> &[u8] {
        self.0.get_handshake_hash()
    }
}

impl Setup<'_> {
    fn suite(&self) -> String {
        let cipher = match self.cipher {
            Cipher::AesGcm => "AESGCM",
            Cipher::ChaChaPoly => "ChaChaPoly",
        };
        format!("Noise_{:?}_25519_{cipher}_SHA256", self.pattern)
    }
}

fn build(setup: &Setup<'_>) -> Result<HandshakeState, snow::Error> {
    let given = Given {
        ephemeral: *setup.ephemeral,
    };
    let mut builder = Builder::with_resolver(setup.suite().parse()?, Box::new(given))
        .prologue(setup.prologue)?
        .psk(0, setup.psk)?;
    if let Some(key) = setup.local_private {
        builder = builder.local_private_key(key)?;
    }
    if let Some(key) = setup.remote_public {
        builder = builder.remote_public_key(key)?;
    }
    if setup.initiator {
        builder.build_initiator()
    } else {
        builder.build_responder()
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.0)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Rejected => "the peer's message is forged, damaged or of another agreement",
            Self::OutOfTurn => "it is not this side's turn",
            Self::TooLong => "the payload does not fit into one message",
            Self::Unfinished => "the handshake is not finished",
        })
    }
}

impl std::error::Error for SetupError {}
impl std::error::Error for Failure {}
