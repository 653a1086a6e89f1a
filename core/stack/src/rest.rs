//! Answers to packets that nobody here wants, as a system without open ports
//! gives them: resets, unreachable ports, echo replies.

use std::net::IpAddr;

use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr};

use crate::wire::Wire;

const MTU: usize = 1280;

/// See the module.
pub(crate) struct Rest {
    pub wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
}

impl Rest {
    pub(crate) fn new(addresses: &[IpAddr], seed: u64, now: Instant) -> Self {
        let mut wire = Wire::new(MTU);
        let interface = interface(&mut wire, addresses.iter().copied(), seed, now);
        Self {
            wire,
            interface,
            sockets: SocketSet::new(Vec::new()),
        }
    }

    pub(crate) fn answer(&mut self, packet: Vec<u8>, now: Instant) {
        self.wire.put(packet);
        self.interface.poll(now, &mut self.wire, &mut self.sockets);
    }
}

/// A smoltcp interface of ours; at most one address a family.
pub(crate) fn interface(
    wire: &mut Wire,
    addresses: impl Iterator<Item = IpAddr>,
    seed: u64,
    now: Instant,
) -> Interface {
    let mut config = Config::new(HardwareAddress::Ip);
    config.random_seed = seed;
    let mut interface = Interface::new(config, wire, now);
    interface.update_ip_addrs(|list| {
        for address in addresses {
            // All the world is on this link. There is room for two: one a family.
            let _ = list.push(IpCidr::new(address.into(), 0));
        }
    });
    interface
}
