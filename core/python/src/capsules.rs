//! `Capsules` and `CapsuleError`: a cover over a session of `ntmobile-capsule`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ntmobile_capsule::{Budget, Cipher, Epoch, Form, KEY, NotReady, ReceiveState, Session};
use pyo3::create_exception;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

create_exception!(
    ntmobile._core,
    CapsuleError,
    PyValueError,
    "A capsule was refused, or no epoch is active; the argument names the reason."
);

/// Capsules kept for sending again, in bytes.
const RESEND_BYTES: usize = 4 << 20;

/// What `receive_state` tells: the epoch, the highest counter, the bitmap.
pub(crate) type State = (u8, u64, Py<PyBytes>);
/// The same, told by the peer.
pub(crate) type Told = (u8, u64, Vec<u8>);

#[pyclass(frozen, module = "ntmobile._core")]
pub(crate) struct Capsules(Mutex<Session>);

#[pymethods]
impl Capsules {
    #[new]
    fn new(index: u32) -> Self {
        Self(Mutex::new(Session::new(index, &Budget::new(RESEND_BYTES))))
    }

    fn install(
        &self,
        epoch: u8,
        cipher: &str,
        send_key: &[u8],
        receive_key: &[u8],
        remote_index: u32,
    ) -> PyResult<()> {
        let (send, receive) = (key(send_key)?, key(receive_key)?);
        let (epoch, cipher) = (epoch_of(epoch)?, cipher_of(cipher)?);
        self.lock()
            .install(epoch, cipher, &send, &receive, remote_index);
        Ok(())
    }

    fn activate(&self, epoch: u8) -> PyResult<()> {
        let epoch = epoch_of(epoch)?;
        self.lock().activate(epoch).map_err(not_ready)
    }

    fn retire(&self, epoch: u8) -> PyResult<()> {
        self.lock().retire(epoch_of(epoch)?);
        Ok(())
    }

    #[pyo3(signature = (payload, *, control=false))]
    fn seal(&self, py: Python<'_>, payload: &[u8], control: bool) -> PyResult<Py<PyBytes>> {
        if payload.len() > ntmobile_capsule::MOST_CONTENT {
            let most = ntmobile_capsule::MOST_CONTENT;
            return Err(PyValueError::new_err(format!(
                "a capsule holds {most} bytes at most"
            )));
        }
        let form = if control {
            Form::Control
        } else {
            Form::Plain { partial: false }
        };
        let capsule = self.lock().seal(form, payload).map_err(not_ready)?;
        Ok(PyBytes::new(py, &capsule).unbind())
    }

    fn open(&self, py: Python<'_>, capsule: &[u8]) -> PyResult<(bool, u8, Py<PyBytes>)> {
        let (header, _, content) = self
            .lock()
            .open(capsule)
            .map_err(|refusal| CapsuleError::new_err(refusal.name()))?;
        let control = header.form == Form::Control;
        let content = PyBytes::new(py, &content).unbind();
        Ok((control, header.epoch.number(), content))
    }

    fn receive_state(&self, py: Python<'_>) -> Option<State> {
        self.lock().receive_state().map(|state| tell(py, &state))
    }

    #[pyo3(signature = (*told))]
    fn missing(&self, py: Python<'_>, told: Vec<Told>) -> PyResult<Vec<Py<PyBytes>>> {
        let states = states_of(told)?;
        let session = self.lock();
        let missing = session.missing(&states.iter().collect::<Vec<_>>());
        let missing = missing.into_iter();
        Ok(missing
            .map(|capsule| PyBytes::new(py, capsule).unbind())
            .collect())
    }
}

impl Capsules {
    fn lock(&self) -> MutexGuard<'_, Session> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_ready(_: NotReady) -> PyErr {
    CapsuleError::new_err("not_ready")
}

/// A receive state for Python.
pub(crate) fn tell(py: Python<'_>, state: &ReceiveState) -> State {
    let bitmap = PyBytes::new(py, &state.bitmap).unbind();
    (state.epoch.number(), state.highest, bitmap)
}

/// A receive state from Python.
pub(crate) fn states_of(told: Vec<Told>) -> PyResult<Vec<ReceiveState>> {
    let state = |(epoch, highest, bitmap)| {
        Ok(ReceiveState {
            epoch: epoch_of(epoch)?,
            highest,
            bitmap,
        })
    };
    told.into_iter().map(state).collect()
}

/// Epoch 0 to 3, else ValueError.
pub(crate) fn epoch_of(number: u8) -> PyResult<Epoch> {
    Epoch::new(number)
        .ok_or_else(|| PyValueError::new_err(format!("an epoch is 0 to 3, not {number}")))
}

/// A cipher by its name, else ValueError.
pub(crate) fn cipher_of(name: &str) -> PyResult<Cipher> {
    name.parse()
        .map_err(|error: ntmobile_capsule::UnknownCipher| PyValueError::new_err(error.to_string()))
}

/// 32 bytes, else ValueError.
pub(crate) fn key(bytes: &[u8]) -> PyResult<[u8; KEY]> {
    bytes
        .try_into()
        .map_err(|_| PyValueError::new_err(format!("a key has 32 bytes, not {}", bytes.len())))
}
