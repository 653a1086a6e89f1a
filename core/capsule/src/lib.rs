//! Capsules: sealing, opening, replay window, resending, stamping. Pure: no
//! I/O, no clock, no threads; the packet loops and the simulator run the same.
//!
//! | part | keeps |
//! |---|---|
//! | [`Header`], [`Form`] | the 16 bytes in front of every capsule |
//! | [`Sealer`], [`Opener`] | the keys of up to four epochs, a direction each |
//! | [`Window`] | which counters were received |
//! | [`Log`] | the capsules of about the last round trip, to send again |
//! | [`Session`] | the three together: one tunnel |
//! | [`Inner`], [`stamp`] | the inner packet and its virtual addresses |
//! | [`Trailer`], [`Template`] | segments of a super-packet |
//! | [`Single`], [`Row`] | packets that came one by one and make up a super-packet |
//! | [`icmp`], [`clamp`], [`ecn`] | what a router on the path would do |

mod aead;
pub mod checksum;
pub mod clamp;
pub mod ecn;
mod flows;
mod fragment;
mod header;
pub mod icmp;
mod inner;
mod log;
mod opener;
mod sealer;
mod segment;
mod session;
mod single;
mod stamp;
mod window;

pub use aead::{Cipher, KEY, UnknownCipher};
pub use checksum::finish_at;
pub use fragment::{LEAST_V6, split, split_v6};
pub use header::{EPOCHS, Epoch, Form, HEADER, Header, KIND, OVERHEAD, TAG};
pub use inner::{Dropped, Fragment, Inner, destination, ends, quoted_ends};
pub use log::{Budget, Log, MOST_RUN_BYTES, MOST_RUN_CAPSULES, Missing};
pub use opener::{Opened, Opener, ReceiveState, Refusal};
pub use sealer::{NotReady, Sealer};
pub use segment::{Kind, Slice, Super, TRAILER, Template, Trailer};
pub use session::{MOST_CONTENT, Session};
pub use single::{Row, Single};
pub use stamp::{Addresses, Checksum, stamp, stamp_routed};
pub use window::{WINDOW, Window};
