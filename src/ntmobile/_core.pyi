"""The face of the Rust core; stubtest holds it against the built extension."""

__all__ = ["__version__"]

__version__: str
