//! Both sides of a handshake against each other, honest and not.

use ntmobile_noise::{Cipher, Failure, Handshake, Pattern, Setup, public_key};
use proptest::prelude::*;

const PSK: [u8; 32] = [3; 32];
const ALICE: [u8; 32] = [1; 32];
const BOB: [u8; 32] = [2; 32];

/// A side as the tests vary it.
#[derive(Clone)]
struct Side {
    pattern: Pattern,
    cipher: Cipher,
    initiator: bool,
    prologue: Vec<u8>,
    psk: [u8; 32],
    own: [u8; 32],
    peer: [u8; 32],
}

impl Side {
    fn alice(pattern: Pattern) -> Self {
        let prologue = b"negotiation 7".to_vec();
        let cipher = Cipher::AesGcm;
        Self {
            pattern,
            cipher,
            initiator: true,
            prologue,
            psk: PSK,
            own: ALICE,
            peer: BOB,
        }
    }

    fn bob(pattern: Pattern) -> Self {
        Self {
            initiator: false,
            own: BOB,
            peer: ALICE,
            ..Self::alice(pattern)
        }
    }

    fn start(&self) -> Handshake {
        let keyed = self.pattern == Pattern::KKpsk0;
        let peer = public_key(&self.peer);
        Handshake::new(&Setup {
            pattern: self.pattern,
            initiator: self.initiator,
            cipher: self.cipher,
            prologue: &self.prologue,
            psk: &self.psk,
            ephemeral: &[if self.initiator { 11 } else { 12 }; 32],
            local_private: keyed.then_some(&self.own),
            remote_public: keyed.then_some(&peer),
        })
        .expect("a handshake")
    }
}

#[test]
fn both_sides_get_the_same_keys_and_hash_in_every_suite() {
    for pattern in [Pattern::KKpsk0, Pattern::NNpsk0] {
        for cipher in [Cipher::AesGcm, Cipher::ChaChaPoly] {
            let mut alice = Side {
                cipher,
                ..Side::alice(pattern)
            }
            .start();
            let mut bob = Side {
                cipher,
                ..Side::bob(pattern)
            }
            .start();

            let request = alice.write(b"index 5").expect("a request");
            assert_eq!(bob.read(&request).expect("its payload"), b"index 5");
            let response = bob.write(b"").expect("a response");
            assert_eq!(alice.read(&response).expect("its payload"), b"");

            let (mine, theirs) = (alice.split().expect("keys"), bob.split().expect("keys"));
            assert_eq!(
                (&*mine.send, &*mine.receive),
                (&*theirs.receive, &*theirs.send)
            );
            assert_eq!(alice.hash(), bob.hash());
            assert!(alice.finished() && bob.finished());
        }
    }
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let request = |_| {
        Side::alice(Pattern::KKpsk0)
            .start()
            .write(b"x")
            .expect("a request")
    };

    let [one, other] = [(); 2].map(request);

    assert_eq!(one, other);
}

#[test]
fn any_difference_fails_at_the_first_message() {
    let honest = Side::bob(Pattern::KKpsk0);
    let different = [
        Side {
            prologue: b"negotiation 8".to_vec(),
            ..honest.clone()
        },
        Side {
            psk: [4; 32],
            ..honest.clone()
        },
        Side {
            own: [9; 32],
            ..honest.clone()
        },
        Side {
            peer: [9; 32],
            ..honest.clone()
        },
        Side {
            cipher: Cipher::ChaChaPoly,
            ..honest.clone()
        },
        Side {
            pattern: Pattern::NNpsk0,
            ..honest.clone()
        },
    ];
    for bob in different {
        let request = Side::alice(Pattern::KKpsk0)
            .start()
            .write(b"x")
            .expect("a request");

        assert_eq!(bob.start().read(&request), Err(Failure::Rejected));
    }
}

#[test]
fn a_forged_answer_does_not_end_the_exchange_with_the_true_peer() {
    let (mut alice, mut bob) = (
        Side::alice(Pattern::KKpsk0).start(),
        Side::bob(Pattern::KKpsk0).start(),
    );
    let request = alice.write(b"").expect("a request");
    bob.read(&request).expect("its payload");
    let response = bob.write(b"yes").expect("a response");

    let mut forged = response.clone();
    forged[40] ^= 1;

    assert_eq!(alice.read(&forged), Err(Failure::Rejected));
    assert_eq!(alice.read(&[7; 48]), Err(Failure::Rejected));
    assert_eq!(alice.read(&response), Ok(b"yes".to_vec()));
}

#[test]
fn a_peers_static_key_of_small_order_is_rejected() {
    let mut alice = Handshake::new(&Setup {
        pattern: Pattern::KKpsk0,
        initiator: true,
        cipher: Cipher::AesGcm,
        prologue: b"",
        psk: &PSK,
        ephemeral: &[11; 32],
        local_private: Some(&ALICE),
        remote_public: Some(&[0; 32]),
    })
    .expect("a handshake");

    assert_eq!(alice.write(b""), Err(Failure::Rejected));
}

#[test]
fn each_call_out_of_turn_says_so() {
    let (mut alice, mut bob) = (
        Side::alice(Pattern::NNpsk0).start(),
        Side::bob(Pattern::NNpsk0).start(),
    );

    assert_eq!(bob.write(b""), Err(Failure::OutOfTurn));
    assert_eq!(alice.read(&[0; 48]), Err(Failure::OutOfTurn));
    assert_eq!(alice.split().err(), Some(Failure::Unfinished));
    assert_eq!(alice.write(&[0; 65_535]), Err(Failure::TooLong));
    bob.read(&alice.write(b"").expect("a request"))
        .expect("its payload");
    assert_eq!(alice.write(b""), Err(Failure::OutOfTurn));
    alice
        .read(&bob.write(b"").expect("a response"))
        .expect("its payload");
    assert_eq!(alice.write(b""), Err(Failure::OutOfTurn));
    assert_eq!(alice.read(&[0; 48]), Err(Failure::OutOfTurn));
}

#[test]
fn static_keys_must_fit_the_pattern() {
    for (pattern, key) in [(Pattern::KKpsk0, None), (Pattern::NNpsk0, Some(&ALICE))] {
        let setup = Setup {
            pattern,
            initiator: true,
            cipher: Cipher::AesGcm,
            prologue: b"",
            psk: &PSK,
            ephemeral: &[11; 32],
            local_private: key,
            remote_public: None,
        };

        assert!(Handshake::new(&setup).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn garbage_is_rejected_and_never_panics(message in prop::collection::vec(any::<u8>(), 0..200)) {
        for pattern in [Pattern::KKpsk0, Pattern::NNpsk0] {
            prop_assert_eq!(Side::bob(pattern).start().read(&message), Err(Failure::Rejected));
        }
    }

    #[test]
    fn every_changed_bit_is_noticed(bit in 0..(48 + 5) * 8_usize) {
        let mut request = Side::alice(Pattern::KKpsk0).start().write(b"index").expect("a request");
        // Bit 255 of an X25519 key is ignored there; the transcript still has it.
        request[bit / 8] ^= 1 << (bit % 8);

        prop_assert_eq!(Side::bob(Pattern::KKpsk0).start().read(&request), Err(Failure::Rejected));
    }
}
