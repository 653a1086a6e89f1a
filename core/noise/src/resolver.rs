//! What snow computes with: its own ciphers and hash, our X25519, and entropy
//! that consists of one ephemeral key.

use std::hint;

use snow::Error;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use zeroize::Zeroizing;

use crate::x25519::KeyPair;

/// The primitives of one handshake whose only randomness is `ephemeral`.
pub(crate) struct Given {
    pub(crate) ephemeral: [u8; 32],
}

/// Hands out one ephemeral key, once; a second request fails, since one key
/// must never serve two exchanges.
struct Once(Option<Zeroizing<[u8; 32]>>);

/// A cipher whose key is overwritten on drop.
struct Erasing(Box<dyn Cipher>);

impl CryptoResolver for Given {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Once(Some(Zeroizing::new(self.ephemeral)))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        match choice {
            DHChoice::Curve25519 => Some(Box::<KeyPair>::default()),
            _ => None,
        }
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        let cipher = DefaultResolver.resolve_cipher(choice)?;
        Some(Box::new(Erasing(cipher)))
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.ephemeral);
    }
}

impl Random for Once {
    fn try_fill_bytes(&mut self, destination: &mut [u8]) -> Result<(), Error> {
        let key = self.0.take().ok_or(Error::Rng)?;
        if destination.len() != key.len() {
            return Err(Error::Rng);
        }
        destination.copy_from_slice(&*key);
        Ok(())
    }
}

impl Cipher for Erasing {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn set(&mut self, key: &[u8; 32]) {
        self.0.set(key);
    }

    fn encrypt(&self, nonce: u64, authtext: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        self.0.encrypt(nonce, authtext, plaintext, out)
    }

    fn decrypt(
        &self,
        nonce: u64,
        authtext: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Error> {
        self.0.decrypt(nonce, authtext, ciphertext, out)
    }
}

impl Drop for Erasing {
    fn drop(&mut self) {
        self.0.set(&[0; 32]);
        // Keeps the compiler from dropping the write as one nobody reads.
        hint::black_box(&self.0);
    }
}
