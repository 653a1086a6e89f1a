//! Capsules: sealing, opening, replay window, stamping; pure.
