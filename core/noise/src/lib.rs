//! Noise handshakes with the randomness handed in.
