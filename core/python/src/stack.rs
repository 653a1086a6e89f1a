//! `Stack`: a cover over the crate `ntmobile-stack`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ntmobile_stack::{Buffers, Failure, Instant, Received, Running};
use ntmobile_tunnel::Packets;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::address;
use crate::open::Open;
use crate::port::os_error;

type Place = (Py<PyBytes>, u16);

#[pyclass(frozen, module = "ntmobile._core")]
pub(crate) struct Stack(Open<Running>);

#[pymethods]
impl Stack {
    #[new]
    #[pyo3(signature = (seed, *, receive_buffer=1_048_576, send_buffer=1_048_576))]
    fn new(seed: u64, receive_buffer: usize, send_buffer: usize) -> PyResult<Self> {
        let buffers = Buffers {
            receive: receive_buffer,
            send: send_buffer,
        };
        let running = Running::new(seed, buffers).map_err(os_error)?;
        Ok(Self(Open::new(running)))
    }

    fn fileno(&self) -> PyResult<i32> {
        self.with(|stack, _| stack.fd())
    }

    #[pyo3(signature = (most=256))]
    fn drain(&self, most: usize) -> PyResult<Vec<(u64, u8)>> {
        let events = self.with(|stack, _| stack.drain(most))?;
        Ok(events.iter().map(|event| (event.id, event.what)).collect())
    }

    #[pyo3(signature = (*hosts))]
    fn set_addresses(&self, hosts: Vec<Vec<u8>>) -> PyResult<()> {
        let hosts = hosts
            .iter()
            .map(|host| ip(host))
            .collect::<PyResult<Vec<_>>>()?;
        self.with(|stack, now| stack.set_addresses(&hosts, now))
    }

    fn set_mtu(&self, host: &[u8], mtu: usize) -> PyResult<()> {
        let host = ip(host)?;
        self.with(|stack, now| stack.set_mtu(host, mtu, now))
    }

    fn connect(&self, py: Python<'_>, host: &[u8], port: u16) -> PyResult<(u64, Place)> {
        let remote = address::from_python(host, port)?;
        let (id, pair) = self.try_with(|stack, now| stack.connect(remote, now))?;
        Ok((id, place(py, pair.local)))
    }

    fn listen(&self, port: u16, backlog: usize) -> PyResult<(u64, u16)> {
        self.try_with(|stack, _| stack.listen(port, backlog))
    }

    fn accept(&self, py: Python<'_>, listener: u64) -> PyResult<Option<(u64, Place, Place)>> {
        let accepted = self.with(|stack, _| stack.accept(listener))?;
        Ok(accepted.map(|(id, pair)| (id, place(py, pair.local), place(py, pair.remote))))
    }

    fn close_listener(&self, listener: u64) -> PyResult<()> {
        self.with(|stack, now| stack.close_listener(listener, now))
    }

    fn send(&self, id: u64, data: &[u8]) -> PyResult<usize> {
        self.try_with(|stack, now| stack.send(id, data, now))
    }

    fn receive(&self, py: Python<'_>, id: u64, most: usize) -> PyResult<Option<Py<PyBytes>>> {
        let mut taken = None;
        let take = |bytes: &[u8]| taken = Some(PyBytes::new(py, bytes).unbind());
        let received = self.try_with(|stack, now| stack.receive(id, most, now, take))?;
        Ok(match received {
            Received::Data(_) => taken,
            Received::Nothing => None,
            Received::End => Some(PyBytes::new(py, &[]).unbind()),
        })
    }

    fn shutdown(&self, id: u64) -> PyResult<()> {
        self.try_with(|stack, now| stack.shutdown(id, now))
    }

    fn leave(&self, id: u64) -> PyResult<()> {
        self.with(|stack, now| stack.leave(id, now))
    }

    fn abort(&self, id: u64) -> PyResult<()> {
        self.with(|stack, now| stack.abort(id, now))
    }

    fn failure(&self, id: u64) -> PyResult<i32> {
        let failure = self.with(|stack, _| stack.failure(id))?;
        Ok(failure.map_or(0, Failure::errno))
    }

    fn unsent(&self, id: u64) -> PyResult<usize> {
        self.try_with(|stack, _| stack.unsent(id))
    }

    fn bind(&self, port: u16) -> PyResult<(u64, u16)> {
        self.try_with(|stack, _| stack.bind(port))
    }

    fn unbind(&self, id: u64) -> PyResult<()> {
        self.with(|stack, _| stack.unbind(id))
    }

    fn send_to(&self, id: u64, host: &[u8], port: u16, payload: &[u8]) -> PyResult<()> {
        let remote = address::from_python(host, port)?;
        self.try_with(|stack, now| stack.send_to(id, remote, payload, now))
    }

    fn receive_from(&self, py: Python<'_>, id: u64) -> PyResult<Option<(Place, Py<PyBytes>)>> {
        let datagram = self.try_with(|stack, _| stack.receive_from(id))?;
        Ok(datagram.map(|datagram| {
            let payload = PyBytes::new(py, &datagram.payload).unbind();
            (place(py, datagram.source), payload)
        }))
    }

    fn count(&self) -> PyResult<usize> {
        self.with(|stack, _| stack.count())
    }

    fn close(&self, py: Python<'_>) {
        self.0.close(py);
    }
}

impl Stack {
    /// What an engine exchanges its packets with.
    pub(crate) fn packets(&self) -> PyResult<Arc<dyn Packets>> {
        self.0.with(Running::packets)
    }

    fn with<R>(&self, use_it: impl FnOnce(&ntmobile_stack::Stack, Instant) -> R) -> PyResult<R> {
        self.0.with(|running| {
            let (stack, now) = running.now();
            use_it(stack, now)
        })
    }

    fn try_with<R>(
        &self,
        use_it: impl FnOnce(&ntmobile_stack::Stack, Instant) -> Result<R, Failure>,
    ) -> PyResult<R> {
        self.with(use_it)?
            .map_err(|failure| PyOSError::new_err((failure.errno(), failure.to_string())))
    }
}

fn ip(host: &[u8]) -> PyResult<IpAddr> {
    Ok(address::from_python(host, 0)?.ip())
}

fn place(py: Python<'_>, address: SocketAddr) -> Place {
    (address::host_bytes(py, address), address.port())
}
