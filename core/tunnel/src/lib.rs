//! The packet loops of a node: TUN on one side, UDP on the other.
