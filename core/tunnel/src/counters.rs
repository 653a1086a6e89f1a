//! What was dropped, refused or failed, by reason.

use std::sync::atomic::{AtomicU64, Ordering};

use ntmobile_capsule::{Dropped, Refusal};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// One counter for each reason; they only grow.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $($(#[$doc])* pub $name: AtomicU64,)*
        }

        impl Counters {
            /// Every counter with its name.
            pub(crate) fn read(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.load(Ordering::Relaxed)),)*]
            }

            fn named(&self, name: &str) -> Option<&AtomicU64> {
                match name {
                    $(stringify!($name) => Some(&self.$name),)*
                    _ => None,
                }
            }
        }
    };
}

counters! {
    /// Capsules that are none, or of a form that does not exist.
    malformed,
    /// Capsules for a tunnel that does not exist.
    stranger,
    /// Capsules of an epoch without keys; some are kept a moment, in case these come.
    unknown_epoch,
    /// Capsules received before.
    replayed,
    /// Capsules too far behind.
    too_old,
    /// Capsules not sealed with our keys.
    forged,
    /// Inner packets whose headers contradict themselves.
    inner_malformed,
    /// Inner packets from or to a group.
    inner_multicast,
    /// Inner packets to everyone.
    inner_broadcast,
    /// Inner packets that only count on one link.
    inner_link_local,
    /// Inner packets that name their own way.
    inner_source_route,
    /// Inner packets from or to a network that nobody here leads to.
    inner_unpermitted,
    /// Inner packets that congestion on the path drops.
    inner_congestion,
    /// Inner packets that arrived while no packet device was attached.
    no_device,
    /// Inner packets the device refused.
    device_refused,
    /// Inner packets above the tunnel's size, answered.
    too_big,
    /// Packets without a tunnel that found the queue full.
    waiting_full,
    /// Packets without a tunnel that waited too long.
    waiting_expired,
    /// Packets without a tunnel that were refused.
    waiting_refused,
    /// Sends the system refused; the capsules stay to be sent again.
    send_failed,
    /// Datagrams for Python that found the queue full.
    queue_full,
    /// Datagrams for Python that are too long to queue.
    too_long,
}

impl Counters {
    pub(crate) fn refused(&self, refusal: Refusal) {
        self.named(refusal.name()).map(add);
    }

    pub(crate) fn dropped(&self, dropped: Dropped) {
        self.named(dropped.name()).map(add);
    }
}

/// Adds one.
pub(crate) fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
