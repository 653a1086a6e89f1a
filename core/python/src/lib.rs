//! The Python face of the Rust core. Nothing is decided here: every class is
//! a thin cover over one crate, and each has a file of its own.

mod address;
mod capsules;
mod engine;
mod link;
mod noise;
mod open;
mod port;
mod relay;
mod signals;
mod stack;

use pyo3::prelude::*;

/// `ntmobile._core`: the packet loops and the handshake, in Rust.
#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<port::Datagram>()?;
    module.add_class::<port::Port>()?;
    module.add_class::<relay::Relay>()?;
    module.add_class::<noise::Noise>()?;
    module.add_function(wrap_pyfunction!(noise::x25519_public, module)?)?;
    module.add(
        "HandshakeError",
        module.py().get_type::<noise::HandshakeError>(),
    )?;
    module.add_class::<capsules::Capsules>()?;
    module.add(
        "CapsuleError",
        module.py().get_type::<capsules::CapsuleError>(),
    )?;
    module.add_class::<engine::Engine>()?;
    module.add_class::<link::Link>()?;
    module.add_class::<stack::Stack>()?;
    module.add_class::<engine::TunnelStatistics>()?;
    module.add_function(wrap_pyfunction!(engine::open_tun, module)?)?;
    module.add_class::<signals::Control>()?;
    module.add_class::<signals::Moved>()?;
    module.add_class::<signals::Wanted>()?;
    module.add_class::<signals::Woken>()?;
    module.add_class::<signals::RekeyDue>()?;
    module.add_class::<signals::SendFailed>()?;
    Ok(())
}
