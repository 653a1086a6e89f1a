//! `Engine` and `open_tun`: a cover over the crate `ntmobile-tunnel`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::IntoRawFd;
use std::sync::Arc;

use ntmobile_tunnel::{Addresses, Divided, EngineError, Network, Tun};
use pyo3::exceptions::{PyKeyError, PyValueError};
use pyo3::prelude::*;

use crate::address;
use crate::capsules::{State, Told, cipher_of, epoch_of, key, states_of, tell};
use crate::open::Open;
use crate::signals;
use crate::stack::Stack;

#[pyfunction]
#[pyo3(signature = (name, *, offload))]
pub(crate) fn open_tun(name: &str, offload: bool) -> PyResult<(i32, String, bool)> {
    let opened = ntmobile_tunnel::open(name, offload)?;
    Ok((opened.fd.into_raw_fd(), opened.name, opened.offload))
}

#[pyclass(frozen, get_all, module = "ntmobile._core")]
pub(crate) struct TunnelStatistics {
    tx_bytes: u64,
    rx_bytes: u64,
    tx_packets: u64,
    rx_packets: u64,
    last_tx_ns: Option<u64>,
    last_rx_ns: Option<u64>,
}

#[pyclass(frozen, module = "ntmobile._core")]
pub(crate) struct Engine(Open<ntmobile_tunnel::Engine>);

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (*, port=0, mark=0, queue=4096))]
    fn new(port: u16, mark: u32, queue: usize) -> PyResult<Self> {
        let engine = ntmobile_tunnel::Engine::open(port, mark, queue)?;
        Ok(Self(Open::new(engine)))
    }

    #[getter]
    fn port(&self) -> PyResult<u16> {
        self.0.with(ntmobile_tunnel::Engine::port)
    }

    fn fileno(&self) -> PyResult<i32> {
        self.0.with(ntmobile_tunnel::Engine::fd)
    }

    fn sockets(&self) -> PyResult<Vec<i32>> {
        self.0.with(ntmobile_tunnel::Engine::sockets)
    }

    #[pyo3(signature = (most=256))]
    fn drain(&self, py: Python<'_>, most: usize) -> PyResult<Vec<Py<PyAny>>> {
        let taken = self.0.with(|engine| engine.drain(most))?;
        taken
            .into_iter()
            .map(|signal| signals::cover(py, signal))
            .collect()
    }

    fn open_spare(&self) -> PyResult<i32> {
        self.0
            .with(ntmobile_tunnel::Engine::open_spare)?
            .map_err(PyErr::from)
    }

    #[pyo3(signature = (host, port, payload, interface=0, socket=0))]
    fn send(
        &self,
        host: &[u8],
        port: u16,
        payload: &[u8],
        interface: u32,
        socket: u32,
    ) -> PyResult<()> {
        let destination = address::from_python(host, port)?;
        self.0
            .with(|engine| engine.send(destination, payload, interface, socket))
    }

    #[pyo3(signature = (fd, *, offload))]
    fn attach_tun(&self, py: Python<'_>, fd: i32, offload: bool) -> PyResult<()> {
        py.detach(|| self.0.with(|engine| engine.attach_tun(fd, offload)))?
            .map_err(PyErr::from)
    }

    fn attach_divided(
        &self,
        py: Python<'_>,
        fd: i32,
        stack: &Stack,
        hosts: Vec<Vec<u8>>,
    ) -> PyResult<()> {
        let inside = stack.packets()?;
        let hosts = hosts
            .iter()
            .map(|host| Ok(address::from_python(host, 0)?.ip()))
            .collect::<PyResult<Vec<_>>>()?;
        py.detach(|| {
            let device = Arc::new(Tun::attach(fd, false)?);
            let packets = Arc::new(Divided::new(device, inside, hosts)?);
            self.0
                .with(|engine| engine.attach(packets))?
                .map_err(PyErr::from)
        })
    }

    fn attach_stack(&self, py: Python<'_>, stack: &Stack) -> PyResult<()> {
        let packets = stack.packets()?;
        py.detach(|| self.0.with(|engine| engine.attach(packets)))?
            .map_err(PyErr::from)
    }

    fn detach_tun(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.0.with(ntmobile_tunnel::Engine::detach))
    }

    #[pyo3(signature = (index, *, own_ipv4, own_ipv6, peer_ipv4, peer_ipv6))]
    fn open_tunnel(
        &self,
        index: u32,
        own_ipv4: &[u8],
        own_ipv6: &[u8],
        peer_ipv4: &[u8],
        peer_ipv6: &[u8],
    ) -> PyResult<()> {
        let addresses = Addresses {
            own_v4: sized(own_ipv4)?,
            own_v6: sized(own_ipv6)?,
            peer_v4: sized(peer_ipv4)?,
            peer_v6: sized(peer_ipv6)?,
        };
        self.with(|engine| engine.open_tunnel(index, addresses))
    }

    fn close_tunnel(&self, index: u32) -> PyResult<()> {
        self.with(|engine| engine.close_tunnel(index))
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "Python passes each by its name in the handshake"
    )]
    fn install_keys(
        &self,
        index: u32,
        epoch: u8,
        cipher: &str,
        send_key: &[u8],
        receive_key: &[u8],
        remote_index: u32,
    ) -> PyResult<()> {
        let (epoch, cipher) = (epoch_of(epoch)?, cipher_of(cipher)?);
        let (send, receive) = (key(send_key)?, key(receive_key)?);
        self.with(|engine| engine.install_keys(index, epoch, cipher, &send, &receive, remote_index))
    }

    fn activate_keys(&self, py: Python<'_>, index: u32, epoch: u8) -> PyResult<()> {
        let epoch = epoch_of(epoch)?;
        py.detach(|| self.with(|engine| engine.activate_keys(index, epoch)))
    }

    fn retire_keys(&self, py: Python<'_>, index: u32, epoch: u8) -> PyResult<()> {
        let epoch = epoch_of(epoch)?;
        py.detach(|| self.with(|engine| engine.retire_keys(index, epoch)))
    }

    fn open_sockets(
        &self,
        py: Python<'_>,
        index: u32,
        first: u32,
        count: u32,
    ) -> PyResult<Vec<i32>> {
        py.detach(|| self.with(|engine| engine.open_sockets(index, first, count)))
    }

    fn close_sockets(&self, py: Python<'_>, index: u32, keep: Vec<u32>) -> PyResult<()> {
        py.detach(|| self.with(|engine| engine.close_sockets(index, &keep)))
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "Python passes the last two by their names"
    )]
    #[pyo3(signature = (index, host, port, interface=0, *, mtu, hold=false, socket=0))]
    fn set_path(
        &self,
        py: Python<'_>,
        index: u32,
        host: &[u8],
        port: u16,
        interface: u32,
        mtu: u16,
        hold: bool,
        socket: u32,
    ) -> PyResult<()> {
        let destination = address::from_python(host, port)?;
        py.detach(|| {
            self.with(|engine| engine.set_path(index, destination, interface, mtu, socket, hold))
        })
    }

    fn clear_path(&self, py: Python<'_>, index: u32) -> PyResult<()> {
        py.detach(|| self.with(|engine| engine.clear_path(index)))
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "Python passes them by their names"
    )]
    #[pyo3(signature = (index, payload, *, host=None, port=None, interface=0, socket=0))]
    fn send_control(
        &self,
        py: Python<'_>,
        index: u32,
        payload: &[u8],
        host: Option<&[u8]>,
        port: Option<u16>,
        interface: u32,
        socket: u32,
    ) -> PyResult<bool> {
        let to = match (host, port) {
            (Some(host), Some(port)) => Some((address::from_python(host, port)?, interface)),
            (None, None) => None,
            _ => return Err(PyValueError::new_err("host and port come together")),
        };
        py.detach(|| self.with(|engine| engine.send_control(index, payload, to, socket)))
    }

    fn receive_state(&self, py: Python<'_>, index: u32) -> PyResult<Option<State>> {
        let state = py.detach(|| self.with(|engine| engine.receive_state(index)))?;
        Ok(state.map(|state| tell(py, &state)))
    }

    #[pyo3(signature = (index, *told))]
    fn resend(&self, py: Python<'_>, index: u32, told: Vec<Told>) -> PyResult<usize> {
        let states = states_of(told)?;
        let told: Vec<_> = states.iter().collect();
        py.detach(|| self.with(|engine| engine.resend(index, &told)))
    }

    fn shrink(&self, py: Python<'_>, index: u32) -> PyResult<()> {
        py.detach(|| self.with(|engine| engine.shrink(index)))
    }

    fn set_networks(
        &self,
        beyond: Vec<(Vec<u8>, u8, Vec<u8>)>,
        behind: Vec<(Vec<u8>, u8)>,
        guests: Option<(Vec<u8>, u8)>,
    ) -> PyResult<()> {
        let beyond = beyond
            .iter()
            .map(|(host, length, peer)| Ok((network(host, *length)?, host_of(peer)?)))
            .collect::<PyResult<Vec<_>>>()?;
        let behind = behind
            .iter()
            .map(|(host, length)| network(host, *length))
            .collect::<PyResult<Vec<_>>>()?;
        let guests = guests
            .map(|(host, length)| network(&host, length))
            .transpose()?;
        self.0
            .with(|engine| engine.set_networks(beyond, behind, guests))
    }

    fn refuse(&self, py: Python<'_>, destination: &[u8]) -> PyResult<()> {
        let destination = address::from_python(destination, 0)?.ip();
        py.detach(|| self.0.with(|engine| engine.refuse(destination)))
    }

    fn statistics(&self, py: Python<'_>, index: u32) -> PyResult<TunnelStatistics> {
        let statistics = py.detach(|| self.with(|engine| engine.statistics(index)))?;
        let ntmobile_tunnel::Statistics {
            tx_bytes,
            rx_bytes,
            tx_packets,
            rx_packets,
            last_tx_ns,
            last_rx_ns,
        } = statistics;
        Ok(TunnelStatistics {
            tx_bytes,
            rx_bytes,
            tx_packets,
            rx_packets,
            last_tx_ns,
            last_rx_ns,
        })
    }

    fn counters(&self) -> PyResult<BTreeMap<&'static str, u64>> {
        self.0
            .with(|engine| engine.counters().into_iter().collect())
    }

    fn set_rekey_after(&self, capsules: u64) -> PyResult<()> {
        self.0.with(|engine| engine.set_rekey_after(capsules))
    }

    fn close(&self, py: Python<'_>) {
        self.0.close(py);
    }
}

impl Engine {
    fn with<T>(
        &self,
        use_it: impl FnOnce(&ntmobile_tunnel::Engine) -> Result<T, EngineError>,
    ) -> PyResult<T> {
        self.0.with(use_it)?.map_err(|error| match error {
            EngineError::UnknownTunnel => PyKeyError::new_err(error.to_string()),
            EngineError::TunnelExists | EngineError::NoKeys => {
                PyValueError::new_err(error.to_string())
            }
        })
    }
}

fn sized<const N: usize>(bytes: &[u8]) -> PyResult<[u8; N]> {
    bytes.try_into().map_err(|_| {
        let length = bytes.len();
        PyValueError::new_err(format!("this address has {N} bytes, not {length}"))
    })
}

fn host_of(bytes: &[u8]) -> PyResult<IpAddr> {
    Ok(address::from_python(bytes, 0)?.ip())
}

fn network(bytes: &[u8], length: u8) -> PyResult<Network> {
    Network::new(host_of(bytes)?, length)
        .ok_or_else(|| PyValueError::new_err(format!("no network is {length} bits long here")))
}
