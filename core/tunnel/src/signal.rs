//! What the packet loops tell Python.

use std::net::{IpAddr, SocketAddr};

use ntmobile_capsule::Epoch;
use ntmobile_port::Datagram;

/// Something Python has to know or decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// A datagram that is not a capsule.
    Datagram(Datagram),
    /// A control message of a tunnel, authentic.
    Control {
        /// The tunnel.
        index: u32,
        /// The epoch that sealed it.
        epoch: Epoch,
        /// Where it came from.
        source: SocketAddr,
        /// The interface it came in through; 0 when unknown.
        interface: u32,
        /// The socket it came to: 0 is the engine's port, others the tunnel's own.
        socket: u32,
        /// The message.
        payload: Vec<u8>,
    },
    /// A capsule newer than all before came from elsewhere than the path leads.
    Moved {
        /// The tunnel.
        index: u32,
        /// Where it came from.
        source: SocketAddr,
        /// The interface it came in through; 0 when unknown.
        interface: u32,
        /// The socket it came to, as above.
        socket: u32,
    },
    /// A packet waits for a tunnel to this virtual address.
    Wanted(IpAddr),
    /// A packet left through this tunnel after none had for a second.
    Woken(u32),
    /// The active epoch of this tunnel has sealed as much as it should.
    RekeyDue(u32),
    /// The system refused to send.
    SendFailed {
        /// The tunnel; 0 for a datagram of Python's.
        index: u32,
        /// The system's error number.
        errno: i32,
    },
}
