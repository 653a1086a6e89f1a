//! What a router on the path would do: clamping, errors, fragments.

mod builder;

use builder::{Ends, Fragment, Spec, Sums, Tcp, Upper, build, ends, spec};
use ntmobile_capsule::{Checksum, Inner, clamp, icmp, split, split_v6};
use proptest::prelude::*;

const SYN: u8 = 0x02;

fn syn(mss: u16, leading: usize) -> impl Fn(u8) -> Upper {
    move |flags| {
        let mut options = vec![1; leading];
        options.extend([2, 4]);
        options.extend(mss.to_be_bytes());
        options.resize(options.len().next_multiple_of(4), 0);
        Upper::Tcp(Tcp {
            sequence: 1,
            flags,
            options,
            payload: Vec::new(),
        })
    }
}

fn whole(v6: bool, upper: Upper) -> Spec {
    Spec {
        v6,
        class: 0,
        identification: 3,
        options: false,
        fragment: Fragment::Whole,
        upper,
    }
}

fn both() -> impl Strategy<Value = (bool, Ends)> {
    any::<bool>().prop_flat_map(|v6| (Just(v6), ends(v6)))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_syn_offers_no_more_than_fits((v6, ends) in both(), mss in 1_u16.., leading in 0_usize..8, mtu in 1280_usize..1500) {
        let most = (mtu - if v6 { 60 } else { 40 }) as u16;
        for sums in [Sums::Full, Sums::Partial] {
            let mut packet = build(&whole(v6, syn(mss, leading)(SYN)), &ends, sums);
            let inner = Inner::parse(&packet).expect("valid");

            let checksum = if sums == Sums::Full { Checksum::Full } else { Checksum::Partial };
            clamp::clamp(&mut packet, &inner, mtu, checksum);

            let clamped = whole(v6, syn(mss.min(most), leading)(SYN));
            prop_assert_eq!(packet, build(&clamped, &ends, sums));
        }
    }

    #[test]
    fn other_packets_are_left_alone((v6, ends) in both(), mss: u16, flags: u8) {
        let packet = build(&whole(v6, syn(mss, 0)(flags & !SYN)), &ends, Sums::Full);
        let mut clamped = packet.clone();

        clamp::clamp(&mut clamped, &Inner::parse(&packet).expect("valid"), 1280, Checksum::Full);

        prop_assert_eq!(clamped, packet);
    }

    #[test]
    fn no_options_panic(options in prop::collection::vec(any::<u8>(), 40), cut in 0_usize..40) {
        let tcp = Tcp { sequence: 0, flags: SYN, options, payload: Vec::new() };
        let ends = Ends::between(&[100, 1, 1, 1], &[100, 1, 1, 2]);
        let packet = build(&whole(false, Upper::Tcp(tcp)), &ends, Sums::Full);
        let inner = Inner::parse(&packet).expect("valid");
        let mut packet = packet[..packet.len() - cut].to_vec();

        clamp::clamp(&mut packet, &inner, 1280, Checksum::Full);
    }

    #[test]
    fn an_error_quotes_the_packet_and_goes_back((spec, ends) in any::<bool>().prop_flat_map(|v6| (spec(v6), ends(v6)))) {
        let packet = build(&spec, &ends, Sums::Full);
        let later = matches!(spec.fragment, Fragment::Later { .. });
        let is_error = !later && matches!(spec.upper, Upper::Error { .. });

        let error = icmp::build(&packet, icmp::Error::TooBig { mtu: 1300 });

        prop_assert_eq!(error.is_none(), later || is_error);
        let Some(error) = error else { return Ok(()) };
        let inner = Inner::parse(&error).expect("valid");
        let addresses = inner.addresses();
        let back = [&ends.destination[..], &ends.source].concat();
        prop_assert_eq!(&error[addresses.clone()], &back[..]);
        prop_assert_eq!(&error[inner.upper + 8..], &packet[..]);
        let mut covered = error[inner.upper..].to_vec();
        if spec.v6 {
            covered.extend(back);
            covered.extend([0, 0, 0, 58]);
            covered.extend((covered.len() as u32 - 36).to_be_bytes());
        } else {
            prop_assert_eq!(builder::sum(&error[..inner.upper]), 0xffff);
        }
        if covered.len().is_multiple_of(2) {
            prop_assert_eq!(builder::sum(&covered), 0xffff);
        }
    }

    #[test]
    fn fragments_fit_and_make_up_the_packet(payload in prop::collection::vec(any::<u8>(), 1400..6000), mtu in 68_usize..1400) {
        let ends = Ends::between(&[100, 1, 1, 1], &[100, 1, 1, 2]);
        let spec = whole(false, Upper::Other { payload: payload.clone() });
        let mut packet = build(&spec, &ends, Sums::Full);
        packet[6] = 0;

        let fragments = split(&packet, &Inner::parse(&packet).expect("valid"), mtu);

        let mut joined: Vec<u8> = Vec::new();
        for (at, fragment) in fragments.iter().enumerate() {
            let word = u16::from_be_bytes([fragment[6], fragment[7]]);
            prop_assert!(fragment.len() <= mtu);
            prop_assert_eq!(builder::sum(&fragment[..20]), 0xffff);
            prop_assert_eq!(usize::from(word & 0x1fff) * 8, joined.len());
            prop_assert_eq!(word & 0x2000 != 0, at + 1 < fragments.len());
            joined.extend(&fragment[20..]);
        }
        prop_assert_eq!(joined, payload);
    }
}

proptest! {
    #[test]
    fn ipv6_fragments_fit_and_make_up_the_packet_also_when_cut_twice(payload in prop::collection::vec(any::<u8>(), 1..1240), mtu in 512_usize..1280, again in 100_usize..512) {
        let ends = Ends::between(&[0xfd; 16], &[0xfd; 16]);
        let packet = build(&whole(true, Upper::Other { payload: payload.clone() }), &ends, Sums::Full);
        let cut = |packet: &[u8], mtu| split_v6(packet, &Inner::parse(packet).expect("valid"), mtu, 7);

        let once = cut(&packet, mtu);
        let twice: Vec<Vec<u8>> = once.iter().flat_map(|fragment| cut(fragment, again)).collect();

        for (fragments, mtu) in [(once, mtu), (twice, again)] {
            let mut joined: Vec<u8> = Vec::new();
            for (at, fragment) in fragments.iter().enumerate() {
                let inner = Inner::parse(fragment).expect("valid");
                let place = u16::from_be_bytes([fragment[42], fragment[43]]);
                prop_assert!(fragment.len() <= mtu);
                prop_assert_eq!(inner.total, fragment.len());
                prop_assert_eq!(inner.protocol, packet[6]);
                prop_assert_eq!(&fragment[44..48], &[0, 0, 0, 7]);
                prop_assert_eq!(usize::from(place & !7), joined.len());
                prop_assert_eq!(place & 1 != 0, at + 1 < fragments.len());
                joined.extend(&fragment[48..]);
            }
            prop_assert_eq!(joined, payload.clone());
        }
    }
}

#[test]
fn a_long_packet_is_quoted_only_as_far_as_the_standards_allow() {
    for (v6, most) in [(false, 576), (true, 1280)] {
        let payload = vec![1; 3000];
        let address = vec![0xfd; if v6 { 16 } else { 4 }];
        let address = if v6 { address } else { vec![100; 4] };
        let spec = whole(
            v6,
            Upper::Udp {
                checksum: true,
                payload,
            },
        );
        let packet = build(&spec, &Ends::between(&address, &address), Sums::Full);

        let error = icmp::build(&packet, icmp::Error::Prohibited).expect("an error");

        assert_eq!(error.len(), most);
    }
}
