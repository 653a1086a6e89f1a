//! Addresses at the seam: 4 or 16 bytes and a port number.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ntmobile_port::Local;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// An address from Python; an IPv4-mapped one becomes IPv4. ValueError unless
/// `host` has 4 or 16 bytes.
pub(crate) fn from_python(host: &[u8], port: u16) -> PyResult<SocketAddr> {
    let host = if let Ok(v4) = <[u8; 4]>::try_from(host) {
        IpAddr::V4(Ipv4Addr::from(v4))
    } else if let Ok(v6) = <[u8; 16]>::try_from(host) {
        IpAddr::V6(Ipv6Addr::from(v6)).to_canonical()
    } else {
        let length = host.len();
        return Err(PyValueError::new_err(format!(
            "a host has 4 or 16 bytes, not {length}"
        )));
    };
    Ok(SocketAddr::new(host, port))
}

/// The bytes of an address's host, for Python.
pub(crate) fn host_bytes(py: Python<'_>, address: SocketAddr) -> Py<PyBytes> {
    match address.ip() {
        IpAddr::V4(v4) => PyBytes::new(py, &v4.octets()).unbind(),
        IpAddr::V6(v6) => PyBytes::new(py, &v6.octets()).unbind(),
    }
}

/// Where a port is bound: one address of a family, or, None, all of them; no
/// bytes is no IPv6. ValueError unless they have 4 and 16 bytes.
pub(crate) fn local(port: u16, ipv4: Option<&[u8]>, ipv6: Option<&[u8]>) -> PyResult<Local> {
    let mut local = Local::any(port);
    if let Some(bytes) = ipv4 {
        local.v4 = <[u8; 4]>::try_from(bytes)
            .map_err(|_| PyValueError::new_err("ipv4 has 4 bytes"))?
            .into();
    }
    match ipv6 {
        None => {}
        Some([]) => local.v6 = None,
        Some(bytes) => {
            let host = <[u8; 16]>::try_from(bytes)
                .map_err(|_| PyValueError::new_err("ipv6 has 16 bytes, or none"))?;
            local.v6 = Some(host.into());
        }
    }
    Ok(local)
}
