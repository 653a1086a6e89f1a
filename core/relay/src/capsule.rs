//! The header of a capsule, as far as a relay reads it.
//!
//! Layout (big-endian; sizes in bytes):
//!
//! ```text
//! kind            1   0x04
//! flags           1
//! spare           2
//! receiver index  4
//! counter         8
//! sealed          16 or more, the tag included
//! ```

/// First byte of every capsule.
const CAPSULE: u8 = 0x04;
/// Length of a capsule without content, in bytes.
pub const SHORTEST: usize = 32;

/// What a datagram is to a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A capsule for this receiver index.
    Capsule(u32),
    /// It says it is a capsule and is too short for one.
    Malformed,
    /// Signalling, a probe, STUN, or noise: for Python.
    Other,
}

/// Tells what `datagram` is by its first bytes.
pub fn classify(datagram: &[u8]) -> Kind {
    match *datagram {
        [CAPSULE, _, _, _, a, b, c, d, ..] if datagram.len() >= SHORTEST => {
            Kind::Capsule(u32::from_be_bytes([a, b, c, d]))
        }
        [CAPSULE, ..] => Kind::Malformed,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_read_big_endian() {
        let mut capsule = [0; SHORTEST];
        capsule[..8].copy_from_slice(&[CAPSULE, 9, 0, 0, 1, 2, 3, 4]);

        assert_eq!(classify(&capsule), Kind::Capsule(0x0102_0304));
    }

    #[test]
    fn a_capsule_without_room_for_its_tag_is_malformed() {
        for length in 1..SHORTEST {
            assert_eq!(classify(&vec![CAPSULE; length]), Kind::Malformed);
        }
    }

    #[test]
    fn every_other_first_byte_is_for_python() {
        for first in (0..=255).filter(|first| *first != CAPSULE) {
            assert_eq!(classify(&[first; 64]), Kind::Other);
        }
        assert_eq!(classify(&[]), Kind::Other);
    }
}
