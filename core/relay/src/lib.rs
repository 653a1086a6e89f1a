//! The forwarding loop of a Relay Server.
