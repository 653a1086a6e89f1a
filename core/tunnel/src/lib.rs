//! The packet loops of a node: an application's packets on one side, one UDP
//! port on the other, a thread per direction when there is much to do. Python decides everything that
//! is not decided per packet; see [`Engine`].
//!
//! | part | does |
//! |---|---|
//! | [`Engine`] | what Python commands |
//! | [`Signal`] | what Python hears |
//! | [`Packets`], [`Tun`] | where inner packets come from and go to |
//! | [`Divided`] | a device with hosts of this process before it |
//! | `device` | who reads the packets: one thread for all, or one of its own |
//! | `outgoing` | packets to capsules |
//! | `incoming`, `rebuild` | capsules to packets, super-packets put together again |
//! | `own` | sockets of one tunnel, beside the two ports of the engine |
//! | `waiting` | packets whose tunnel is not there yet |
//! | `early` | capsules whose keys are not there yet |

mod counters;
mod device;
mod divided;
mod early;
mod engine;
mod incoming;
mod link;
mod networks;
mod outgoing;
mod own;
mod packets;
mod rebuild;
mod sending;
mod shared;
mod signal;
mod tun;
mod tunnel;
mod view;
mod waiting;
mod watch;

pub use divided::Divided;
pub use engine::{Engine, EngineError};
pub use networks::Network;
pub use ntmobile_capsule::{Addresses, Cipher, Epoch, KEY, ReceiveState};
pub use own::SPARE;
pub use packets::{Capability, Left, Packets};
pub use signal::Signal;
pub use tun::{Opened, Tun, open};
pub use tunnel::Statistics;
