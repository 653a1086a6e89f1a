//! The two ciphers, with a nonce of four zero bytes and the counter.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::aead::{
    AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};

use crate::header::{HEADER, OVERHEAD, TAG};

/// Size of every key in bytes.
pub const KEY: usize = 32;

/// An AEAD that both ends agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cipher {
    /// The default.
    Aes256Gcm,
    /// Where an end has no AES instructions.
    ChaCha20Poly1305,
}

/// A cipher's name that is none of ours.
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownCipher;

impl Cipher {
    /// The name the handshake offers it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aes256Gcm => "aes-256-gcm",
            Self::ChaCha20Poly1305 => "chacha20-poly1305",
        }
    }

    fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::Aes256Gcm => &AES_256_GCM,
            Self::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        }
    }
}

impl FromStr for Cipher {
    type Err = UnknownCipher;

    fn from_str(name: &str) -> Result<Self, UnknownCipher> {
        [Self::Aes256Gcm, Self::ChaCha20Poly1305]
            .into_iter()
            .find(|cipher| cipher.name() == name)
            .ok_or(UnknownCipher)
    }
}

impl fmt::Display for UnknownCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the cipher is neither aes-256-gcm nor chacha20-poly1305")
    }
}

impl std::error::Error for UnknownCipher {}

/// A key of one direction of one epoch. The library erases it when it goes.
pub(crate) struct Key(LessSafeKey);

impl Key {
    pub(crate) fn new(cipher: Cipher, bytes: &[u8; KEY]) -> Self {
        let key =
            UnboundKey::new(cipher.algorithm(), bytes).expect("both ciphers take keys of 32 bytes");
        Self(LessSafeKey::new(key))
    }

    /// Seals in place: `capsule` is the encoded header, the content and room
    /// for the tag.
    pub(crate) fn seal(&self, counter: u64, capsule: &mut [u8]) {
        let (head, rest) = capsule.split_at_mut(HEADER);
        let (content, tag) = rest.split_at_mut(rest.len() - TAG);
        self.0
            .seal_in_place_scatter(nonce(counter), Aad::from(head), content, &[], tag)
            .expect("the lengths are right and far below the ciphers' limits");
    }

    /// Opens `capsule` into the front of `content`, which is at least as long
    /// as the capsule without its overhead; none when it is forged.
    pub(crate) fn open(&self, counter: u64, capsule: &[u8], content: &mut [u8]) -> Option<usize> {
        let (head, rest) = capsule.split_at(HEADER);
        let (sealed, tag) = rest.split_at(rest.len() - TAG);
        let length = capsule.len() - OVERHEAD;
        self.0
            .open_separate_gather(
                nonce(counter),
                Aad::from(head),
                sealed,
                tag,
                &mut content[..length],
            )
            .ok()?;
        Some(length)
    }
}

fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[4..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}
