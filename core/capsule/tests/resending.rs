//! What a log keeps, gives up and sends again.

use std::collections::BTreeSet;
use std::sync::Arc;

use ntmobile_capsule::{
    Budget, Cipher, Epoch, Form, HEADER, Header, Log, OVERHEAD, Opener, ReceiveState, Sealer,
};
use proptest::prelude::*;

const KEY: [u8; 32] = [7; 32];
const CHUNK: usize = 256 << 10;

struct End {
    sealer: Sealer,
    log: Log,
    capsules: Vec<Vec<u8>>,
}

impl End {
    fn new(budget: &Arc<Budget>) -> Self {
        let mut end = Self {
            sealer: Sealer::default(),
            log: Log::new(budget),
            capsules: Vec::new(),
        };
        end.rekey(0);
        end
    }

    fn rekey(&mut self, epoch: u8) {
        let epoch = epoch_of(epoch);
        self.sealer.install(epoch, Cipher::Aes256Gcm, &KEY, 1);
        self.sealer.activate(epoch).expect("just installed");
        self.log
            .begin_epoch(self.sealer.active().expect("just activated"));
    }

    fn seal(&mut self, length: usize, flow: u32) {
        let capsule = length + OVERHEAD;
        if !self.log.joins(capsule, self.sealer.sealed()) {
            self.log.close_run();
        }
        let room = self.log.place(capsule);
        room[HEADER..][..length].fill(flow as u8);
        let form = Form::Plain { partial: false };
        let counter = self.sealer.seal(form, room).expect("active");
        self.capsules.push(room.to_vec());
        let active = self.sealer.active().expect("active");
        self.log.commit(capsule, counter, active, flow);
    }

    fn missing(&self, told: &[&ReceiveState]) -> Vec<Vec<u8>> {
        let runs = self.log.missing(told);
        runs.iter()
            .flat_map(|run| run.bytes.chunks(run.stride))
            .map(<[u8]>::to_vec)
            .collect()
    }
}

fn epoch_of(number: u8) -> Epoch {
    Epoch::new(number).expect("below four")
}

/// A peer that has received only the first capsule of epoch 0.
fn nearly_nothing() -> ReceiveState {
    ReceiveState {
        epoch: epoch_of(0),
        highest: 0,
        bitmap: vec![0xff],
    }
}

fn counters(capsules: &[Vec<u8>]) -> Vec<u64> {
    capsules
        .iter()
        .map(|capsule| Header::decode(capsule).expect("a capsule").counter)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 50, failure_persistence: None, ..Default::default() })]

    #[test]
    fn exactly_what_did_not_arrive_is_sent_again_in_the_same_bytes(
        sent in prop::collection::vec((0_usize..1500, 0_u32..4, any::<bool>()), 2..300)
    ) {
        let mut end = End::new(&Budget::new(64 << 20));
        let mut peer = Opener::default();
        peer.install(epoch_of(0), Cipher::Aes256Gcm, &KEY);
        let mut lost = Vec::new();
        for (length, flow, arrives) in sent {
            end.seal(length, flow);
            let capsule = end.capsules.last().expect("just sealed").clone();
            if arrives {
                let header = Header::decode(&capsule).expect("a capsule");
                peer.open(&header, &capsule, &mut vec![0; length]).expect("authentic");
            } else {
                lost.push(capsule);
            }
        }
        prop_assume!(peer.receive_state().is_some());
        let state = peer.receive_state().expect("just checked");

        prop_assert_eq!(end.missing(&[&state]), lost);
    }

    #[test]
    fn runs_hold_capsules_of_one_length_in_order(lengths in prop::collection::vec(prop_oneof![Just(1400_usize), 0_usize..1500], 1..300)) {
        let mut end = End::new(&Budget::new(64 << 20));
        lengths.iter().for_each(|length| end.seal(*length, 0));
        let nothing = ReceiveState { epoch: epoch_of(3), highest: 0, bitmap: vec![] };

        let runs = end.log.missing(&[&nothing]);

        let mut all = Vec::new();
        for run in runs {
            prop_assert!(run.bytes.len() <= ntmobile_capsule::MOST_RUN_BYTES);
            let capsules: Vec<_> = run.bytes.chunks(run.stride).map(<[u8]>::to_vec).collect();
            prop_assert!(capsules.len() <= ntmobile_capsule::MOST_RUN_CAPSULES);
            all.extend(capsules);
        }
        prop_assert_eq!(all, end.capsules);
    }
}

#[test]
fn a_busy_tunnel_keeps_eight_mebibytes() {
    let mut end = End::new(&Budget::new(64 << 20));
    (0..10_000).for_each(|_| end.seal(1400, 1));

    let kept: usize = end.missing(&[&nearly_nothing()]).iter().map(Vec::len).sum();

    assert!((31 * CHUNK..=32 * CHUNK).contains(&kept), "{kept} bytes");
}

#[test]
fn the_newest_capsule_of_a_quiet_flow_outlives_a_busy_one() {
    let mut end = End::new(&Budget::new(64 << 20));
    end.seal(10, 0);
    for flow in 1..=100 {
        end.seal(10, flow);
    }
    (0..10_000).for_each(|_| end.seal(1400, 1000));

    let first: Vec<u64> = counters(&end.missing(&[&nearly_nothing()]));

    let quiet: BTreeSet<u64> = first
        .iter()
        .copied()
        .filter(|counter| *counter <= 100)
        .collect();
    assert_eq!(quiet, (1..=100).collect());
    assert!(first.contains(&10_100));
}

#[test]
fn a_silent_tunnel_gives_its_memory_back_but_not_the_newest_capsules() {
    let mut end = End::new(&Budget::new(64 << 20));
    end.seal(10, 0);
    end.seal(10, 5);
    (0..10_000).for_each(|_| end.seal(1400, 1));

    end.log.shrink();

    let left = end.missing(&[&nearly_nothing()]);
    assert!(left.iter().map(Vec::len).sum::<usize>() <= CHUNK + 100);
    assert!(counters(&left).contains(&1));
    assert!(counters(&left).contains(&10_001));
}

#[test]
fn all_tunnels_together_stay_within_the_budget_and_one_chunk_each() {
    let budget = Budget::new(8 * CHUNK);
    let mut ends: Vec<_> = (0..6).map(|_| End::new(&budget)).collect();
    for end in &mut ends {
        (0..2000).for_each(|_| end.seal(1400, 1));
    }

    let kept: usize = ends
        .iter()
        .flat_map(|end| end.missing(&[&nearly_nothing()]))
        .map(|capsule| capsule.len())
        .sum();

    assert!(kept <= 14 * CHUNK, "{kept} bytes");
    drop(ends);
    let mut next = End::new(&budget);
    (0..2000).for_each(|_| next.seal(1400, 1));
    assert!(next.missing(&[&nearly_nothing()]).len() > 1400);
}

#[test]
fn later_epochs_are_missing_as_a_whole_and_earlier_ones_not_at_all() {
    let mut end = End::new(&Budget::new(64 << 20));
    for epoch in 0..3 {
        end.rekey(epoch);
        (0..3).for_each(|_| end.seal(10, 0));
    }
    let heard_of_epoch_1 = ReceiveState {
        epoch: epoch_of(1),
        highest: 1,
        bitmap: vec![0b1111_1101],
    };

    let missing = end.missing(&[&heard_of_epoch_1]);

    let told: Vec<_> = missing
        .iter()
        .map(|capsule| Header::decode(capsule).expect("a capsule"))
        .map(|header| (header.epoch.number(), header.counter))
        .collect();
    assert_eq!(told, [(1, 0), (1, 2), (2, 0), (2, 1), (2, 2)]);
}

#[test]
fn who_heard_only_control_messages_of_the_newest_epoch_misses_nothing_of_those_before() {
    let mut end = End::new(&Budget::new(64 << 20));
    for epoch in 0..3 {
        end.rekey(epoch);
        (0..3).for_each(|_| end.seal(10, 0));
    }
    end.rekey(3);
    let heard_of_epoch_3 = ReceiveState {
        epoch: epoch_of(3),
        highest: 0,
        bitmap: vec![0xff],
    };

    assert!(end.missing(&[&heard_of_epoch_3]).is_empty());
}

#[test]
fn who_tells_of_two_epochs_gets_what_each_of_them_misses_and_what_lies_between() {
    let mut end = End::new(&Budget::new(64 << 20));
    for epoch in 0..4 {
        end.rekey(epoch);
        (0..3).for_each(|_| end.seal(10, 0));
    }
    let state = |epoch, bits| ReceiveState {
        epoch: epoch_of(epoch),
        highest: 2,
        bitmap: vec![bits],
    };

    let missing = end.missing(&[&state(3, 0b1111_1101), &state(1, 0b1111_1011)]);

    let told: Vec<_> = missing
        .iter()
        .map(|capsule| Header::decode(capsule).expect("a capsule"))
        .map(|header| (header.epoch.number(), header.counter))
        .collect();
    assert_eq!(told, [(1, 0), (2, 0), (2, 1), (2, 2), (3, 1)]);
}
