//! The internet checksum: RFC 1071, and RFC 1624 for changing one.

/// Where UDP has its checksum, of all that offload knows the only one whose
/// zero means that there is none.
const UDP_CHECKSUM: usize = 6;

/// A ones' complement sum in the making; big-endian words.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// Adds the words of `bytes`; an odd last byte counts as a high byte, so
    /// only the last piece of a sum may have an odd length.
    #[must_use]
    pub fn with(self, bytes: &[u8]) -> Self {
        let words = bytes.chunks_exact(4);
        let tail = words.remainder();
        let sum: u64 = words
            .map(|word| u64::from(u32::from_be_bytes([word[0], word[1], word[2], word[3]])))
            .sum();
        let tail = match *tail {
            [a] => u64::from(a) << 8,
            [a, b] => u64::from(u16::from_be_bytes([a, b])),
            [a, b, c] => u64::from(u16::from_be_bytes([a, b])) + (u64::from(c) << 8),
            _ => 0,
        };
        Self(fold_once(self.0 + fold_once(sum) + tail))
    }

    /// Adds one word.
    #[must_use]
    pub fn with_word(self, word: u16) -> Self {
        Self(self.0 + u64::from(word))
    }

    /// Takes the words of `bytes` away again; even lengths only.
    #[must_use]
    pub fn without(self, bytes: &[u8]) -> Self {
        self.with_word(!Sum::default().with(bytes).fold())
    }

    /// The sum in 16 bits.
    pub fn fold(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }
}

fn fold_once(sum: u64) -> u64 {
    (sum & 0xffff_ffff) + (sum >> 32)
}

/// The big-endian word at `at`.
pub fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Puts `word` at `at`, big-endian.
pub fn put(bytes: &mut [u8], at: usize, word: u16) {
    bytes[at..at + 2].copy_from_slice(&word.to_be_bytes());
}

/// The sum over the pseudo-header of `addresses` (source and destination, one
/// after the other), `protocol` and the upper layer's `length`.
pub fn pseudo(addresses: &[u8], protocol: u8, length: usize) -> Sum {
    Sum::default()
        .with(addresses)
        .with(&(length as u32).to_be_bytes())
        .with_word(u16::from(protocol))
}

/// Fixes the complemented checksum at `at` after `old` was replaced by `new`.
pub fn update(bytes: &mut [u8], at: usize, old: &[u8], new: &[u8]) {
    let sum = Sum::default()
        .with_word(!word(bytes, at))
        .without(old)
        .with(new);
    put(bytes, at, !sum.fold());
}

/// The same for an uncomplemented one, as offloaded packets carry it.
pub fn update_partial(bytes: &mut [u8], at: usize, old: &[u8], new: &[u8]) {
    let sum = Sum::default()
        .with_word(word(bytes, at))
        .without(old)
        .with(new);
    put(bytes, at, sum.fold());
}

/// Turns the uncomplemented sum of the pseudo-header at `at` into the checksum
/// of `bytes`. `zero_means_none` is UDP's rule: 0 is sent as 0xffff.
pub fn finish(bytes: &mut [u8], at: usize, zero_means_none: bool) {
    let checksum = !Sum::default().with(bytes).fold();
    let checksum = if checksum == 0 && zero_means_none {
        0xffff
    } else {
        checksum
    };
    put(bytes, at, checksum);
}

/// Writes the checksum of an IPv4 header.
pub fn finish_ipv4(header: &mut [u8]) {
    put(header, 10, 0);
    let sum = Sum::default().with(header).fold();
    put(header, 10, !sum);
}

/// Finishes a checksum as offload asks for it: over everything from `start`,
/// at `start + offset`. Nonsense positions change nothing.
pub fn finish_at(packet: &mut [u8], start: usize, offset: usize) {
    if start < packet.len() && offset + 2 <= packet.len() - start {
        finish(&mut packet[start..], offset, offset == UDP_CHECKSUM);
    }
}
