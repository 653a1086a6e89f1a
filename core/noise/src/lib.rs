//! Noise handshakes in which all randomness is handed in, over the crate snow.
//!
//! Kmncn, the key only the two nodes have, is the result of one of these: the
//! Tunnel Request and the Tunnel Response carry its two messages, and Ktmp is
//! the pre-shared key. Suites: `Noise_{KKpsk0,NNpsk0}_25519_{AESGCM,ChaChaPoly}_SHA256`.
//!
//! Source: Noise Protocol Framework revision 34; paper, Fig. 6 and Fig. 7.
//! Ours: agreeing on Kmncn instead of sending it (docs/protocol.md section 4).

mod handshake;
mod resolver;
mod wiped;
mod x25519;

pub use handshake::{Cipher, Failure, Handshake, Keys, Pattern, Setup, SetupError};
pub use x25519::public_key;
