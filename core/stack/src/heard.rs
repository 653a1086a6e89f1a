//! What a TCP segment that arrives says about those that left.

const HEADER: usize = 20;
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
const END_OF_OPTIONS: u8 = 0;
const PADDING: u8 = 1;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    /// Its own sequence number.
    pub number: u32,
    /// The one behind it.
    pub end: u32,
    /// What it acknowledges; none where it breaks the connection off.
    pub acknowledges: Option<u32>,
    /// The window as the header has it.
    pub window: u16,
    /// It opens the connection.
    pub opens: bool,
    /// Its sender tells what it has beyond the number that it acknowledges (RFC 2018).
    pub permits: bool,
    /// What it has there: from, to.
    pub blocks: Vec<[u32; 2]>,
}

impl Heard {
    /// None when it is no segment.
    pub(crate) fn parse(segment: &[u8]) -> Option<Self> {
        let head = segment.first_chunk::<HEADER>()?;
        let payload = usize::from(head[12] >> 4) * 4;
        let options = segment.get(HEADER..payload)?;
        let [.., n0, n1, n2, n3, a0, a1, a2, a3] = *head.first_chunk::<12>()?;
        let number = u32::from_be_bytes([n0, n1, n2, n3]);
        let flags = head[13];
        let length =
            segment.len() - payload + usize::from(flags & FIN != 0) + usize::from(flags & SYN != 0);
        let mut heard = Self {
            number,
            end: number.wrapping_add(length as u32),
            acknowledges: (flags & (ACK | RST) == ACK)
                .then_some(u32::from_be_bytes([a0, a1, a2, a3])),
            window: u16::from_be_bytes([head[14], head[15]]),
            opens: flags & SYN != 0,
            permits: false,
            blocks: Vec::new(),
        };
        heard.read(options);
        Some(heard)
    }

    /// It does nothing but acknowledge.
    pub(crate) fn is_empty(&self) -> bool {
        self.number == self.end
    }

    fn read(&mut self, mut options: &[u8]) {
        while let [kind, rest @ ..] = options {
            match (*kind, rest) {
                (END_OF_OPTIONS, _) => return,
                (PADDING, _) => options = rest,
                (kind, [length, ..]) => {
                    let Some(content) = options.get(2..usize::from(*length)) else {
                        return;
                    };
                    match kind {
                        SACK_PERMITTED => self.permits = true,
                        SACK => self.blocks.extend(content.chunks_exact(8).map(block)),
                        _ => {}
                    }
                    options = &options[2 + content.len()..];
                }
                _ => return,
            }
        }
    }
}

fn block(bytes: &[u8]) -> [u32; 2] {
    let number =
        |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    [number(0), number(4)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A segment with those options and flags, that acknowledges 7.
    fn segment(flags: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut segment = vec![0; HEADER];
        segment[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
        segment[11] = 7;
        segment[12] = ((HEADER + options.len()) as u8 / 4) << 4;
        segment[13] = flags;
        [&segment, options, payload].concat()
    }

    #[test]
    fn blocks_behind_padding_are_found() {
        let mut options = vec![1, 1, 5, 18];
        for number in [10_u32, 20, u32::MAX, 3] {
            options.extend(number.to_be_bytes());
        }

        let heard = Heard::parse(&segment(ACK, &options, b"")).expect("it is one");

        assert_eq!(heard.blocks, [[10, 20], [u32::MAX, 3]]);
        assert_eq!(heard.acknowledges, Some(7));
        assert!(heard.is_empty() && !heard.permits);
    }

    #[test]
    fn payload_and_both_flags_have_a_length() {
        let heard = Heard::parse(&segment(SYN | FIN, &[4, 2, 0, 9], b"abc")).expect("it is one");

        assert_eq!((heard.number, heard.end), (u32::MAX, 4));
        assert!(heard.permits && heard.opens);
        assert_eq!(heard.acknowledges, None);
    }

    proptest! {
        #[test]
        fn whatever_the_options_are_nothing_breaks(
            flags in any::<u8>(), options in prop::collection::vec(any::<u8>(), 0..40)
        ) {
            let whole = &options[..options.len() / 4 * 4];
            prop_assert!(Heard::parse(&segment(flags, whole, b"")).is_some());
            Heard::parse(&options);
        }
    }
}
