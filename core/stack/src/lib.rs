//! TCP and UDP inside an application: the other end of a node's inner packets
//! where there is no TUN device (framework built-in type).
//!
//! TCP itself is smoltcp's. One smoltcp interface with one socket belongs to
//! each connection, behind a table of our own: smoltcp walks all sockets of an
//! interface for every packet, and a thousand idle ones would slow a busy one.
//!
//! | part | does |
//! |---|---|
//! | [`Stack`] | connections, listeners, datagram ports; reads no clock |
//! | [`Running`] | the same as the packet device of an engine, with a thread for the timers |
//! | `connection` | one TCP connection |
//! | `acks` | acknowledgements of much, told to smoltcp in steps |
//! | `recovery` | what was lost leaves again: RFC 8985 over smoltcp |
//! | `scoreboard` | what left, and what of it arrived |
//! | `rack` | which segment arrived that left last |
//! | `patience` | how long to wait for an answer |
//! | `heard` | what a segment that arrives says about those that left |
//! | `resend` | a segment that leaves again |
//! | `listener` | connections that wait to be accepted |
//! | `datagrams` | one UDP port |
//! | `fragments` | datagrams in several packets |
//! | `home` | packets from the node to itself |
//! | `memory` | room for a connection's buffers |
//! | `wire` | the device that smoltcp sees, with segmentation offload |
//! | `rest` | answers to packets that nobody here wants |
//! | `events` | what happened, for who waits |
//! | `timers` | when to look at which connection again |

mod acks;
mod connection;
mod datagrams;
mod events;
mod failure;
mod fragments;
mod heard;
mod home;
mod listener;
mod memory;
mod outbox;
mod packet;
mod patience;
mod rack;
mod recovery;
mod resend;
mod rest;
mod running;
mod scoreboard;
mod stack;
mod table;
mod timers;
mod wire;

pub use connection::Received;
pub use datagrams::Datagram;
pub use events::Event;
pub use failure::Failure;
pub use packet::Pair;
pub use running::Running;
pub use smoltcp::time::{Duration, Instant};
pub use stack::{Buffers, Stack};
