//! The header in front of every capsule, 16 bytes, big-endian; it is the
//! associated data of the seal.
//!
//! | at | size | field |
//! |---|---|---|
//! | 0 | 1 | kind, 0x04 |
//! | 1 | 1 | flags: bits 0-1 epoch, 2 control, 3 segment, 4 partial checksum; others 0 |
//! | 2 | 2 | spare, 0 |
//! | 4 | 4 | the receiver's index of the tunnel |
//! | 8 | 8 | counter, also the nonce |
//!
//! Then the sealed bytes, then the 16-byte tag. Source: docs/protocol.md section 4.

/// First byte of every capsule; other datagrams start otherwise.
pub const KIND: u8 = 0x04;
/// Size of the header in bytes.
pub const HEADER: usize = 16;
/// Size of the tag in bytes.
pub const TAG: usize = 16;
/// What a capsule adds to its content, in bytes.
pub const OVERHEAD: usize = HEADER + TAG;
/// How many epochs the two epoch bits tell apart.
pub const EPOCHS: usize = 4;

const CONTROL: u8 = 1 << 2;
const SEGMENT: u8 = 1 << 3;
const PARTIAL: u8 = 1 << 4;
const KNOWN: u8 = 0x03 | CONTROL | SEGMENT | PARTIAL;

/// One of the four generations of keys that a capsule can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch(u8);

impl Epoch {
    /// Epoch `number`; none above 3.
    pub fn new(number: u8) -> Option<Self> {
        (usize::from(number) < EPOCHS).then_some(Self(number))
    }

    /// The number, 0 to 3.
    pub fn number(self) -> u8 {
        self.0
    }

    pub(crate) fn slot(self) -> usize {
        usize::from(self.0)
    }
}

/// What a capsule holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A message between the two ends, opaque here.
    Control,
    /// One inner IP packet. With `partial` its TCP or UDP checksum field holds
    /// the uncomplemented sum of the pseudo-header only.
    Plain {
        /// The receiver, or its system, has the checksum still to finish.
        partial: bool,
    },
    /// One segment of a super-packet: payload, headers, trailer.
    Segment,
}

/// A decoded header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which keys seal it.
    pub epoch: Epoch,
    /// What is inside.
    pub form: Form,
    /// The receiver's index of the tunnel.
    pub index: u32,
    /// Grows by one with every capsule of an epoch.
    pub counter: u64,
}

impl Header {
    /// The header of `capsule`; none when it is not a capsule, too short, or of
    /// a form that does not exist.
    pub fn decode(capsule: &[u8]) -> Option<Self> {
        if capsule.len() < OVERHEAD {
            return None;
        }
        let (head, _) = capsule.split_first_chunk::<HEADER>()?;
        let [kind, flags, 0, 0, i0, i1, i2, i3, counter @ ..] = *head else {
            return None;
        };
        if kind != KIND || flags & !KNOWN != 0 {
            return None;
        }
        Some(Self {
            epoch: Epoch(flags & 0x03),
            form: form(flags & !0x03)?,
            index: u32::from_be_bytes([i0, i1, i2, i3]),
            counter: u64::from_be_bytes(counter),
        })
    }

    /// The 16 bytes.
    pub fn encode(&self) -> [u8; HEADER] {
        let kind = match self.form {
            Form::Control => CONTROL,
            Form::Plain { partial: false } => 0,
            Form::Plain { partial: true } => PARTIAL,
            Form::Segment => SEGMENT,
        };
        let mut head = [0; HEADER];
        head[0] = KIND;
        head[1] = self.epoch.0 | kind;
        head[4..8].copy_from_slice(&self.index.to_be_bytes());
        head[8..].copy_from_slice(&self.counter.to_be_bytes());
        head
    }
}

fn form(flags: u8) -> Option<Form> {
    match flags {
        CONTROL => Some(Form::Control),
        SEGMENT => Some(Form::Segment),
        0 => Some(Form::Plain { partial: false }),
        PARTIAL => Some(Form::Plain { partial: true }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn forms() -> impl Strategy<Value = Form> {
        prop_oneof![
            Just(Form::Control),
            Just(Form::Segment),
            any::<bool>().prop_map(|partial| Form::Plain { partial }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(epoch in 0_u8..4, form in forms(), index: u32, counter: u64) {
            let epoch = Epoch::new(epoch).expect("below four");
            let header = Header { epoch, form, index, counter };
            let mut capsule = header.encode().to_vec();
            capsule.extend([0; TAG]);

            prop_assert_eq!(Header::decode(&capsule), Some(header));
        }

        #[test]
        fn no_bytes_panic_and_what_decodes_encodes_to_the_same(bytes: Vec<u8>) {
            if let Some(header) = Header::decode(&bytes) {
                prop_assert_eq!(&header.encode()[..], &bytes[..HEADER]);
            }
        }
    }

    #[test]
    fn a_form_that_does_not_exist_is_refused() {
        let mut capsule = [0; OVERHEAD];
        capsule[0] = KIND;
        for flags in [CONTROL | SEGMENT, SEGMENT | PARTIAL, 1 << 5, 1 << 7] {
            capsule[1] = flags;
            assert_eq!(Header::decode(&capsule), None);
        }
    }
}
