//! X25519 for snow, with the private key erased on drop.

use curve25519_dalek::montgomery::MontgomeryPoint;
use snow::Error;
use snow::types::{Dh, Random};
use zeroize::{Zeroize, Zeroizing};

/// The X25519 public key of `private`. Source: RFC 7748 section 6.1.
pub fn public_key(private: &[u8; 32]) -> [u8; 32] {
    MontgomeryPoint::mul_base_clamped(*private).to_bytes()
}

/// A key pair of this side.
#[derive(Default)]
pub(crate) struct KeyPair {
    private: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

impl Dh for KeyPair {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, private: &[u8]) {
        self.private.copy_from_slice(private);
        self.public = public_key(&self.private);
    }

    fn generate(&mut self, entropy: &mut dyn Random) -> Result<(), Error> {
        entropy.try_fill_bytes(&mut *self.private)?;
        self.public = public_key(&self.private);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        &*self.private
    }

    /// Fails for a public key of small order: the result would be known to
    /// anybody. Source: RFC 7748 section 6.1.
    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let public: [u8; 32] = public[..32].try_into().map_err(|_| Error::Dh)?;
        let mut shared = MontgomeryPoint(public)
            .mul_clamped(*self.private)
            .to_bytes();
        let usable = shared.iter().fold(0, |all, byte| all | byte) != 0;
        out[..32].copy_from_slice(&shared);
        shared.zeroize();
        if usable { Ok(()) } else { Err(Error::Dh) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> [u8; 32] {
        let byte = |at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hex");
        std::array::from_fn(byte)
    }

    /// Source: RFC 7748 section 6.1.
    #[test]
    fn the_example_of_the_rfc_comes_out() {
        let alice = bytes("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
        let bob = bytes("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
        let (mut pair, mut shared) = (KeyPair::default(), [0; 32]);
        pair.set(&alice);

        pair.dh(&public_key(&bob), &mut shared)
            .expect("a shared key");

        let public = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a";
        assert_eq!(pair.pubkey(), bytes(public));
        let expected = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742";
        assert_eq!(shared, bytes(expected));
    }

    #[test]
    fn a_public_key_of_small_order_is_refused() {
        let mut pair = KeyPair::default();
        pair.set(&[7; 32]);

        for point in [[0; 32], std::array::from_fn(|at| u8::from(at == 0))] {
            assert!(pair.dh(&point, &mut [0; 32]).is_err());
        }
    }
}
