//! A user-space link with delay, jitter, loss, duplication and reordering.
