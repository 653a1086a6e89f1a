//! `Port` and `Datagram`: a cover over the crate `ntmobile-port`.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use ntmobile_port::Counters;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::address;
use crate::open::Open;

#[pyclass(frozen, eq, module = "ntmobile._core")]
pub(crate) struct Datagram {
    source: SocketAddr,
    #[pyo3(get)]
    interface: u32,
    #[pyo3(get)]
    payload: Py<PyBytes>,
}

impl Datagram {
    /// The Python face of what a queue held.
    pub(crate) fn cover(py: Python<'_>, datagram: &ntmobile_port::Datagram) -> Self {
        Self {
            source: datagram.source,
            interface: datagram.interface,
            payload: PyBytes::new(py, &datagram.bytes).unbind(),
        }
    }
}

impl PartialEq for Datagram {
    fn eq(&self, other: &Self) -> bool {
        let same_bytes = Python::attach(|py| {
            self.payload.bind(py).as_bytes() == other.payload.bind(py).as_bytes()
        });
        same_bytes && self.source == other.source && self.interface == other.interface
    }
}

#[pymethods]
impl Datagram {
    #[new]
    fn new(
        source_host: &[u8],
        source_port: u16,
        interface: u32,
        payload: Py<PyBytes>,
    ) -> PyResult<Self> {
        let source = address::from_python(source_host, source_port)?;
        Ok(Self {
            source,
            interface,
            payload,
        })
    }

    #[getter]
    fn source_host(&self, py: Python<'_>) -> Py<PyBytes> {
        address::host_bytes(py, self.source)
    }

    #[getter]
    fn source_port(&self) -> u16 {
        self.source.port()
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let length = self.payload.bind(py).as_bytes().len();
        format!(
            "Datagram({}, interface {}, {length} bytes)",
            self.source, self.interface
        )
    }
}

#[pyclass(frozen, module = "ntmobile._core")]
pub(crate) struct Port(Open<ntmobile_port::Port>);

#[pymethods]
impl Port {
    #[new]
    #[pyo3(signature = (*, port=0, mark=0, queue=4096, ipv4=None, ipv6=None, homes=0))]
    fn new(
        port: u16,
        mark: u32,
        queue: usize,
        ipv4: Option<&[u8]>,
        ipv6: Option<&[u8]>,
        homes: usize,
    ) -> PyResult<Self> {
        let local = address::local(port, ipv4, ipv6)?;
        let opened = ntmobile_port::Port::open(local, mark, queue, homes).map_err(os_error)?;
        Ok(Self(Open::new(opened)))
    }

    #[getter]
    fn port(&self) -> PyResult<u16> {
        self.0.with(ntmobile_port::Port::number)
    }

    fn fileno(&self) -> PyResult<i32> {
        self.0.with(ntmobile_port::Port::fd)
    }

    fn sockets(&self) -> PyResult<Vec<i32>> {
        self.0.with(ntmobile_port::Port::sockets)
    }

    #[pyo3(signature = (most=256))]
    fn drain(&self, py: Python<'_>, most: usize) -> PyResult<Vec<Datagram>> {
        let taken = self.0.with(|port| port.drain(most))?;
        Ok(taken
            .iter()
            .map(|datagram| Datagram::cover(py, datagram))
            .collect())
    }

    #[pyo3(signature = (host, port, payload, interface=0))]
    fn send(&self, host: &[u8], port: u16, payload: &[u8], interface: u32) -> PyResult<i32> {
        let destination = address::from_python(host, port)?;
        self.0
            .with(|open| open.send(destination, payload, interface))
            .and_then(errno)
    }

    fn counters(&self) -> PyResult<BTreeMap<&'static str, u64>> {
        self.0.with(|port| by_name(port.counters()))
    }

    fn close(&self, py: Python<'_>) {
        self.0.close(py);
    }
}

/// The OSError that Python's own sockets would raise: with its errno, and of the
/// class that belongs to it.
pub(crate) fn os_error(error: io::Error) -> PyErr {
    let Some(number) = error.raw_os_error() else {
        return error.into();
    };
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    PyOSError::new_err((number, text.to_owned()))
}

/// 0, or the number of the system's error.
pub(crate) fn errno(result: io::Result<()>) -> PyResult<i32> {
    match result {
        Ok(()) => Ok(0),
        Err(error) => error
            .raw_os_error()
            .ok_or_else(|| PyOSError::new_err(error.to_string())),
    }
}

/// The counters of a port, as Python's dict.
pub(crate) fn by_name(counters: Counters) -> BTreeMap<&'static str, u64> {
    let Counters {
        received,
        queue_full,
        too_long,
        sent,
        send_failed,
    } = counters;
    BTreeMap::from([
        ("received", received),
        ("queue_full", queue_full),
        ("too_long", too_long),
        ("sent", sent),
        ("send_failed", send_failed),
    ])
}
