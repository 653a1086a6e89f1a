//! Every stamped packet equals one built from scratch with the right addresses.

mod builder;

use builder::{Ends, Spec, Sums, build, ends, offloadable, spec};
use ntmobile_capsule::{Addresses, Checksum, Dropped, Inner, ecn, stamp};
use proptest::prelude::*;

const ADDRESSES: Addresses = Addresses {
    own_v4: [100, 64, 0, 1],
    own_v6: [0xfd, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14],
    peer_v4: [198, 18, 255, 255],
    peer_v6: [0xfd; 16],
};

fn stamped(v6: bool) -> Ends {
    if v6 {
        Ends::between(&ADDRESSES.peer_v6, &ADDRESSES.own_v6)
    } else {
        Ends::between(&ADDRESSES.peer_v4, &ADDRESSES.own_v4)
    }
}

fn any_packet() -> impl Strategy<Value = (Spec, Ends)> {
    any::<bool>().prop_flat_map(|v6| (spec(v6), ends(v6)))
}

fn stamp_all(packet: &mut [u8], checksum: Checksum) {
    let inner = Inner::parse(packet).expect("a packet that a tunnel carries");
    stamp(packet, &inner, &ADDRESSES, checksum);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_stamped_packet_equals_one_built_from_scratch((spec, ends) in any_packet()) {
        let mut packet = build(&spec, &ends, Sums::Full);

        stamp_all(&mut packet, Checksum::Full);

        prop_assert_eq!(packet, build(&spec, &stamped(spec.v6), Sums::Full));
    }

    #[test]
    fn so_does_one_whose_checksum_is_offloaded(
        (spec, ends) in any::<bool>().prop_flat_map(|v6| (offloadable(v6), ends(v6)))
    ) {
        let mut packet = build(&spec, &ends, Sums::Partial);

        stamp_all(&mut packet, Checksum::Partial);

        prop_assert_eq!(packet, build(&spec, &stamped(spec.v6), Sums::Partial));
    }

    #[test]
    fn no_bytes_panic(mut bytes in prop::collection::vec(any::<u8>(), 1..120), v6: bool) {
        bytes[0] = if v6 { 0x60 } else { 0x45 };
        if let Ok(inner) = Inner::parse(&bytes) {
            inner.flow(&bytes);
            stamp(&mut bytes, &inner, &ADDRESSES, Checksum::Full);
        }
    }

    #[test]
    fn congestion_marks_are_handed_on_as_rfc_6040_says((spec, ends) in any_packet(), outer in 0_u8..4) {
        let mut packet = build(&spec, &ends, Sums::Full);

        let result = ecn::decapsulate(&mut packet, outer);

        // Rows: inner Not-ECT, ECT(1), ECT(0), CE. Columns: the outer the same way.
        let expected = [
            [Some(0), Some(0), Some(0), None],
            [Some(1), Some(1), Some(1), Some(3)],
            [Some(2), Some(1), Some(2), Some(3)],
            [Some(3), Some(3), Some(3), Some(3)],
        ][usize::from(spec.class & 3)][usize::from(outer)];
        match expected {
            None => prop_assert_eq!(result, Err(Dropped::Congestion)),
            Some(ecn) => {
                let marked = Spec { class: spec.class & !3 | ecn, ..spec };
                prop_assert_eq!(packet, build(&marked, &ends, Sums::Full));
            }
        }
    }
}

#[test]
fn packets_that_name_their_own_way_are_refused() {
    let mut source_route = vec![0x47, 0, 0, 28, 0, 0, 0, 0, 64, 6, 0, 0];
    source_route.extend([100, 64, 0, 1, 100, 64, 0, 2, 131, 7, 4, 1, 2, 3, 4, 0]);
    let mut routing_header = vec![0x60, 0, 0, 0, 0, 8, 43, 64];
    routing_header.extend([[0xfd; 32].as_slice(), &[59, 0, 0, 1, 0, 0, 0, 0]].concat());

    assert_eq!(Inner::parse(&source_route), Err(Dropped::SourceRoute));
    assert_eq!(Inner::parse(&routing_header), Err(Dropped::SourceRoute));
}
