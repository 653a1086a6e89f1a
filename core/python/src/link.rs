//! `Link`: a cover over the crate `ntmobile-link`.

use std::collections::BTreeMap;

use ntmobile_link::{Port, Settings, Way};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::open::Open;

#[pyclass(frozen, module = "ntmobile._core")]
pub(crate) struct Link(Open<ntmobile_link::Link>);

#[pymethods]
impl Link {
    #[new]
    #[pyo3(signature = (interface, tap, *, seed=1))]
    fn new(interface: &str, tap: &str, seed: u64) -> PyResult<Self> {
        let (first, second) = (Port::packet(interface)?, Port::tap(tap)?);
        let link = ntmobile_link::Link::join(first, second, seed)?;
        Ok(Self(Open::new(link)))
    }

    #[pyo3(signature = (
        way, *, delay_ns=0, jitter_ns=0, loss=0.0, duplicate=0.0, reorder=0.0, reorder_ns=0,
        rate_bps=0, queue_ns=0
    ))]
    #[expect(clippy::too_many_arguments, reason = "keywords on the Python side")]
    fn set(
        &self,
        way: &str,
        delay_ns: u64,
        jitter_ns: u64,
        loss: f64,
        duplicate: f64,
        reorder: f64,
        reorder_ns: u64,
        rate_bps: u64,
        queue_ns: u64,
    ) -> PyResult<()> {
        let settings = Settings {
            delay_ns,
            jitter_ns,
            loss,
            duplicate,
            reorder,
            reorder_ns,
            rate_bps,
            queue_ns,
        };
        let way = named(way)?;
        self.0.with(|link| link.set(way, settings))
    }

    fn statistics(&self, way: &str) -> PyResult<BTreeMap<&'static str, u64>> {
        let way = named(way)?;
        let seen = self.0.with(|link| link.statistics(way))?;
        Ok(BTreeMap::from([
            ("arrived", seen.arrived),
            ("delivered", seen.delivered),
            ("lost", seen.lost),
            ("duplicated", seen.duplicated),
            ("overflowed", seen.overflowed),
            ("refused", seen.refused),
            ("late_ns", seen.late_ns),
        ]))
    }

    fn close(&self, py: Python<'_>) {
        self.0.close(py);
    }
}

fn named(way: &str) -> PyResult<Way> {
    match way {
        "out" => Ok(Way::Out),
        "back" => Ok(Way::Back),
        _ => Err(PyValueError::new_err("a way is \"out\" or \"back\"")),
    }
}
