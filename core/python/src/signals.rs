//! What `Engine.drain` yields besides `Datagram`.

use std::net::{IpAddr, SocketAddr};

use ntmobile_tunnel::Signal;
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::address;
use crate::port::Datagram;

#[pyclass(frozen, module = "ntmobile._core")]
pub(crate) struct Control {
    #[pyo3(get)]
    index: u32,
    #[pyo3(get)]
    epoch: u8,
    source: SocketAddr,
    #[pyo3(get)]
    interface: u32,
    #[pyo3(get)]
    socket: u32,
    #[pyo3(get)]
    payload: Py<PyBytes>,
}

#[pyclass(frozen, module = "ntmobile._core")]
pub(crate) struct Moved {
    #[pyo3(get)]
    index: u32,
    source: SocketAddr,
    #[pyo3(get)]
    interface: u32,
    #[pyo3(get)]
    socket: u32,
}

#[pyclass(frozen, module = "ntmobile._core")]
pub(crate) struct Wanted {
    destination: IpAddr,
}

#[pyclass(frozen, get_all, module = "ntmobile._core")]
pub(crate) struct Woken {
    index: u32,
}

#[pyclass(frozen, get_all, module = "ntmobile._core")]
pub(crate) struct RekeyDue {
    index: u32,
}

#[pyclass(frozen, get_all, module = "ntmobile._core")]
pub(crate) struct SendFailed {
    index: u32,
    errno: i32,
}

#[pymethods]
impl Control {
    #[getter]
    fn source_host(&self, py: Python<'_>) -> Py<PyBytes> {
        address::host_bytes(py, self.source)
    }

    #[getter]
    fn source_port(&self) -> u16 {
        self.source.port()
    }
}

#[pymethods]
impl Moved {
    #[getter]
    fn source_host(&self, py: Python<'_>) -> Py<PyBytes> {
        address::host_bytes(py, self.source)
    }

    #[getter]
    fn source_port(&self) -> u16 {
        self.source.port()
    }
}

#[pymethods]
impl Wanted {
    #[getter]
    fn destination(&self, py: Python<'_>) -> Py<PyBytes> {
        address::host_bytes(py, SocketAddr::new(self.destination, 0))
    }
}

/// The Python face of a signal.
pub(crate) fn cover(py: Python<'_>, signal: Signal) -> PyResult<Py<PyAny>> {
    match signal {
        Signal::Datagram(datagram) => Datagram::cover(py, &datagram).into_py_any(py),
        Signal::Control {
            index,
            epoch,
            source,
            interface,
            socket,
            payload,
        } => Control {
            index,
            epoch: epoch.number(),
            source,
            interface,
            socket,
            payload: PyBytes::new(py, &payload).unbind(),
        }
        .into_py_any(py),
        Signal::Moved {
            index,
            source,
            interface,
            socket,
        } => Moved {
            index,
            source,
            interface,
            socket,
        }
        .into_py_any(py),
        Signal::Wanted(destination) => Wanted { destination }.into_py_any(py),
        Signal::Woken(index) => Woken { index }.into_py_any(py),
        Signal::RekeyDue(index) => RekeyDue { index }.into_py_any(py),
        Signal::SendFailed { index, errno } => SendFailed { index, errno }.into_py_any(py),
    }
}
