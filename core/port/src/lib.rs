//! One UDP port of a node or a server: a socket per address family with the
//! same number, and the bounded queue that carries datagrams to Python.
//!
//! | type | keeps |
//! |---|---|
//! | [`Pair`], [`bind`] | the two sockets of a port |
//! | [`Socket`], [`Buffers`] | batched receiving, sending through a chosen interface |
//! | [`Inbox`] | a bounded queue with a descriptor that an event loop can watch |
//! | [`Intake`] | the inbox of datagrams, with its limits and counters |
//! | [`Port`] | a pair, its reader thread and its intake |
//!
//! The sockets are never connected and never bound to a local address: those
//! answer ENETUNREACH for ever after a move. The uplink is chosen for each
//! datagram by its interface index.

mod datagram;
mod inbox;
mod intake;
mod message;
mod pair;
mod reader;
mod socket;
mod wake;

pub use datagram::{Datagram, LONGEST};
pub use inbox::Inbox;
pub use intake::Intake;
pub use message::Address;
pub use pair::{Pair, bind};
pub use reader::{Counters, Port};
pub use socket::{Buffers, Received, Socket};
pub use wake::{Ready, Wake};
