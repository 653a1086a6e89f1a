//! `Noise` and `x25519_public`: a cover over the crate `ntmobile-noise`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ntmobile_noise::{Cipher, Failure, Handshake, Pattern, Setup};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

pyo3::create_exception!(
    ntmobile._core,
    HandshakeError,
    PyValueError,
    "A handshake message could not be written or read; the handshake is as it was."
);

#[pyclass(frozen, module = "ntmobile._core")]
pub(crate) struct Noise(Mutex<Handshake>);

#[pymethods]
impl Noise {
    #[new]
    #[pyo3(signature = (
        pattern, *, initiator, cipher, prologue, psk, ephemeral,
        local_private=None, remote_public=None
    ))]
    #[expect(clippy::too_many_arguments, reason = "keywords on the Python side")]
    fn new(
        pattern: &str,
        initiator: bool,
        cipher: &str,
        prologue: &[u8],
        psk: &[u8],
        ephemeral: &[u8],
        local_private: Option<&[u8]>,
        remote_public: Option<&[u8]>,
    ) -> PyResult<Self> {
        let setup = Setup {
            pattern: parse_pattern(pattern)?,
            initiator,
            cipher: parse_cipher(cipher)?,
            prologue,
            psk: key("psk", psk)?,
            ephemeral: key("ephemeral", ephemeral)?,
            local_private: local_private
                .map(|bytes| key("local_private", bytes))
                .transpose()?,
            remote_public: remote_public
                .map(|bytes| key("remote_public", bytes))
                .transpose()?,
        };
        let handshake =
            Handshake::new(&setup).map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(Self(Mutex::new(handshake)))
    }

    fn write(&self, py: Python<'_>, payload: &[u8]) -> PyResult<Py<PyBytes>> {
        let message = self.lock().write(payload).map_err(refused)?;
        Ok(PyBytes::new(py, &message).unbind())
    }

    fn read(&self, py: Python<'_>, message: &[u8]) -> PyResult<Py<PyBytes>> {
        let payload = self.lock().read(message).map_err(refused)?;
        Ok(PyBytes::new(py, &payload).unbind())
    }

    #[getter]
    fn finished(&self) -> bool {
        self.lock().finished()
    }

    fn split(&self, py: Python<'_>) -> PyResult<(Py<PyBytes>, Py<PyBytes>)> {
        let keys = self.lock().split().map_err(refused)?;
        let cover = |key: &[u8; 32]| PyBytes::new(py, key).unbind();
        Ok((cover(&keys.send), cover(&keys.receive)))
    }

    #[getter]
    fn hash(&self, py: Python<'_>) -> Py<PyBytes> {
        PyBytes::new(py, self.lock().hash()).unbind()
    }
}

impl Noise {
    fn lock(&self) -> MutexGuard<'_, Handshake> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pyfunction]
pub(crate) fn x25519_public(py: Python<'_>, private: &[u8]) -> PyResult<Py<PyBytes>> {
    let public = ntmobile_noise::public_key(key("private", private)?);
    Ok(PyBytes::new(py, &public).unbind())
}

fn parse_pattern(name: &str) -> PyResult<Pattern> {
    match name {
        "KKpsk0" => Ok(Pattern::KKpsk0),
        "NNpsk0" => Ok(Pattern::NNpsk0),
        other => Err(PyValueError::new_err(format!("no such pattern: {other}"))),
    }
}

fn parse_cipher(name: &str) -> PyResult<Cipher> {
    match name {
        "aes-256-gcm" => Ok(Cipher::AesGcm),
        "chacha20-poly1305" => Ok(Cipher::ChaChaPoly),
        other => Err(PyValueError::new_err(format!("no such cipher: {other}"))),
    }
}

fn key<'a>(name: &str, bytes: &'a [u8]) -> PyResult<&'a [u8; 32]> {
    let length = bytes.len();
    bytes
        .try_into()
        .map_err(|_| PyValueError::new_err(format!("{name} has 32 bytes, not {length}")))
}

fn refused(failure: Failure) -> PyErr {
    HandshakeError::new_err(failure.to_string())
}
