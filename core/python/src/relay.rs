//! `Relay`: a cover over the crate `ntmobile-relay`.

use std::collections::BTreeMap;

use ntmobile_relay::Counters;
use pyo3::prelude::*;

use crate::address;
use crate::open::Open;
use crate::port::{Datagram, errno, os_error};

#[pyclass(frozen, module = "ntmobile._core")]
pub(crate) struct Relay(Open<ntmobile_relay::Relay>);

#[pymethods]
impl Relay {
    #[new]
    #[pyo3(signature = (*, port=0, queue=4096, ipv4=None, ipv6=None))]
    fn new(port: u16, queue: usize, ipv4: Option<&[u8]>, ipv6: Option<&[u8]>) -> PyResult<Self> {
        let local = address::local(port, ipv4, ipv6)?;
        let opened = ntmobile_relay::Relay::open(local, queue).map_err(os_error)?;
        Ok(Self(Open::new(opened)))
    }

    #[getter]
    fn port(&self) -> PyResult<u16> {
        self.0.with(ntmobile_relay::Relay::number)
    }

    fn fileno(&self) -> PyResult<i32> {
        self.0.with(ntmobile_relay::Relay::fd)
    }

    #[pyo3(signature = (most=256))]
    fn drain(&self, py: Python<'_>, most: usize) -> PyResult<Vec<Datagram>> {
        let taken = self.0.with(|relay| relay.drain(most))?;
        Ok(taken
            .iter()
            .map(|datagram| Datagram::cover(py, datagram))
            .collect())
    }

    #[pyo3(signature = (host, port, payload, interface=0))]
    fn send(&self, host: &[u8], port: u16, payload: &[u8], interface: u32) -> PyResult<i32> {
        let destination = address::from_python(host, port)?;
        self.0
            .with(|relay| relay.send(destination, payload, interface))
            .and_then(errno)
    }

    #[pyo3(signature = (
        source_host, source_port, index, destination_host, destination_port, *, path, rate
    ))]
    #[expect(clippy::too_many_arguments, reason = "keywords on the Python side")]
    fn bind(
        &self,
        source_host: &[u8],
        source_port: u16,
        index: u32,
        destination_host: &[u8],
        destination_port: u16,
        path: u128,
        rate: u64,
    ) -> PyResult<bool> {
        let source = address::from_python(source_host, source_port)?;
        let destination = address::from_python(destination_host, destination_port)?;
        self.0
            .with(|relay| relay.bind((source, index), destination, path, rate))
    }

    fn unbind(&self, source_host: &[u8], source_port: u16, index: u32) -> PyResult<bool> {
        let source = address::from_python(source_host, source_port)?;
        self.0.with(|relay| relay.unbind(source, index))
    }

    fn forget(&self, path: u128) -> PyResult<usize> {
        self.0.with(|relay| relay.forget(path))
    }

    fn statistics(&self, path: u128) -> PyResult<(u64, u64, Option<u64>)> {
        let (usage, idle_ns) = self.0.with(|relay| relay.usage(path))?;
        Ok((usage.bytes, usage.packets, idle_ns))
    }

    fn counters(&self) -> PyResult<BTreeMap<&'static str, u64>> {
        self.0.with(|relay| by_name(relay.counters()))
    }

    fn close(&self, py: Python<'_>) {
        self.0.close(py);
    }
}

fn by_name(counters: Counters) -> BTreeMap<&'static str, u64> {
    BTreeMap::from([
        ("received", counters.received),
        ("queue_full", counters.queue_full),
        ("too_long", counters.too_long),
        ("sent", counters.sent),
        ("send_failed", counters.send_failed),
        ("forwarded", counters.forwarded),
        ("forward_failed", counters.forward_failed),
        ("unbound", counters.unbound),
        ("hinted", counters.hinted),
        ("over_rate", counters.over_rate),
        ("malformed", counters.malformed),
        ("bindings", counters.bindings),
    ])
}
