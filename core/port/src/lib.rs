//! One UDP port of a node or a server: a socket per address family with the
//! same number, and the bounded queue that carries datagrams to Python.
//!
//! | type | keeps |
//! |---|---|
//! | [`Pair`], [`bind`], [`bind_to`], [`Local`] | the two sockets of a port |
//! | [`Socket`], [`Buffers`] | batched receiving, sending through a chosen interface |
//! | [`Inbox`] | a bounded queue with a descriptor that an event loop can watch |
//! | [`Intake`] | the inbox of datagrams, with its limits and counters |
//! | [`Homes`] | at which local address each peer asks |
//! | [`Port`] | a pair, its reader thread and its intake |
//!
//! A node's sockets are never connected and never bound to a local address:
//! those answer ENETUNREACH for ever after a move. The uplink is chosen for
//! each datagram by its interface index. A server stays where it is, and must
//! answer from the address it was asked at: its sockets are bound to one
//! address of a family, or remember where each peer asked.

mod datagram;
mod homes;
mod inbox;
mod intake;
mod message;
mod pair;
mod reader;
mod socket;
mod wake;

pub use datagram::{Datagram, LONGEST};
pub use homes::Homes;
pub use inbox::Inbox;
pub use intake::Intake;
pub use message::Address;
pub use pair::{Local, Pair, bind, bind_to};
pub use reader::{Counters, Port};
pub use socket::{Buffers, Received, Socket};
pub use wake::{Ready, Wake};
