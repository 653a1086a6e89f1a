//! The forwarding loop of a Relay Server.
//!
//! A capsule is forwarded as it is, by the address it came from and the
//! receiver index in its header; it is never opened. Everything that is not a
//! capsule goes to the queue to Python.
//!
//! | module | decides |
//! |---|---|
//! | `capsule` | what is a capsule, and for which index |
//! | `path` | how much of a path's traffic its rate lets through |
//! | `table` | where a capsule goes |
//! | `group` | which capsules travel together in one send |
//! | `hint` | who is told that nothing is bound for it |
//! | `outbox` | nothing: the system calls |
//! | `relay` | nothing: the thread and its life |
//!
//! Source: paper, Fig. 7. Ours: the look-up by index, docs/protocol.md section 7.

mod capsule;
mod group;
mod hint;
mod outbox;
mod path;
mod relay;
mod table;

pub use capsule::{Kind, SHORTEST, classify};
pub use path::{Path, Usage};
pub use relay::{Counters, Relay};
pub use table::{Binding, Table};
