//! The table against a model that is too simple to be wrong.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use ntmobile_relay::Table;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Bind((SocketAddr, u32), SocketAddr, u128),
    Unbind((SocketAddr, u32)),
    Forget(u128),
}

fn address() -> impl Strategy<Value = SocketAddr> {
    (0_u8..3, 0_u16..2, any::<bool>()).prop_map(|(host, port, v6)| {
        let last = u16::from(host);
        if v6 {
            (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last), port).into()
        } else {
            (Ipv4Addr::new(192, 0, 2, host), port).into()
        }
    })
}

fn step() -> impl Strategy<Value = Step> {
    let key = || (address(), 0_u32..3);
    prop_oneof![
        4 => (key(), address(), 0_u128..4).prop_map(|(key, to, path)| Step::Bind(key, to, path)),
        2 => key().prop_map(Step::Unbind),
        1 => (0_u128..4).prop_map(Step::Forget),
    ]
}

/// (source, index) -> (destination, path)
type Model = BTreeMap<(SocketAddr, u32), (SocketAddr, u128)>;

/// Does the step in the model and returns what the table must answer.
fn model_does(model: &mut Model, step: &Step) -> usize {
    match step {
        Step::Bind(key, to, path) => match model.get(key) {
            Some((_, owner)) if owner != path => 0,
            _ => {
                model.insert(*key, (*to, *path));
                1
            }
        },
        Step::Unbind(key) => usize::from(model.remove(key).is_some()),
        Step::Forget(path) => {
            let before = model.len();
            model.retain(|_, (_, owner)| owner != path);
            before - model.len()
        }
    }
}

fn table_does(table: &mut Table, step: &Step) -> usize {
    match step {
        Step::Bind(key, to, path) => usize::from(table.bind(*key, *to, *path, 0)),
        Step::Unbind(key) => usize::from(table.unbind(*key)),
        Step::Forget(path) => table.forget(*path),
    }
}

proptest! {
    #[test]
    fn the_table_does_what_the_model_does(steps in prop::collection::vec(step(), 0..120)) {
        let (mut table, mut model) = (Table::default(), Model::new());

        for step in steps {
            prop_assert_eq!(table_does(&mut table, &step), model_does(&mut model, &step), "{:?}", step);

            prop_assert_eq!(table.len(), model.len());
            for ((source, index), (to, path)) in &model {
                let found = table.find(*source, *index).expect("bound");
                prop_assert_eq!((found.destination, found.path), (*to, *path));
            }
        }
    }
}

#[test]
fn the_same_index_from_another_source_is_another_binding() {
    let [a, b]: [SocketAddr; 2] = [1, 2].map(|host| (Ipv4Addr::new(192, 0, 2, host), 4330).into());
    let mut table = Table::default();

    table.bind((a, 7), b, 1, 0);

    assert!(table.find(b, 7).is_none());
    assert!(table.find(a, 8).is_none());
    assert!(table.find(SocketAddr::new(a.ip(), 4331), 7).is_none());
}

#[test]
fn moving_a_binding_keeps_the_account_of_its_path() {
    let [a, b, c]: [SocketAddr; 3] =
        [1, 2, 3].map(|host| (Ipv4Addr::new(192, 0, 2, host), 4330).into());
    let mut table = Table::default();
    table.bind((a, 7), b, 1, 0);
    table.path(1).expect("a path").admit(5, 100, 100);

    assert!(table.bind((a, 7), c, 1, 0));

    assert_eq!(table.path(1).expect("a path").usage().bytes, 100);
    assert_eq!(table.find(a, 7).expect("bound").destination, c);
}
