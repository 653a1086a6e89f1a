//! What Python can close while Rust still lends it out.

use std::sync::{PoisonError, RwLock};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Holds a resource until it is closed; afterwards every use raises ValueError,
/// as Python's own files do.
pub(crate) struct Open<T>(RwLock<Option<T>>);

impl<T: Send + Sync> Open<T> {
    pub(crate) fn new(resource: T) -> Self {
        Self(RwLock::new(Some(resource)))
    }

    /// What `use_it` returns; ValueError once closed.
    pub(crate) fn with<R>(&self, use_it: impl FnOnce(&T) -> R) -> PyResult<R> {
        let resource = self.0.read().unwrap_or_else(PoisonError::into_inner);
        resource
            .as_ref()
            .map(use_it)
            .ok_or_else(|| PyValueError::new_err("it is closed"))
    }

    /// Drops the resource without the interpreter's lock; again is no error.
    pub(crate) fn close(&self, py: Python<'_>) {
        py.detach(|| {
            drop(
                self.0
                    .write()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take(),
            )
        });
    }
}
