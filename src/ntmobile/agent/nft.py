"""nftables by its library, because what is made with ``flags owner`` lives as long as a context."""

import ctypes


class Nft:
    """A context of libnftables: what it makes with ``flags owner`` lives as long as it does."""

    def __init__(self) -> None:
        """Raises OSError where the library is not installed."""
        self._library = ctypes.CDLL("libnftables.so.1")
        self._declare()
        self._context = self._library.nft_ctx_new(0)
        self._library.nft_ctx_buffer_error(self._context)
        self._library.nft_ctx_buffer_output(self._context)

    def _declare(self) -> None:
        library, context = self._library, ctypes.c_void_p
        library.nft_ctx_new.argtypes = [ctypes.c_uint32]
        library.nft_ctx_new.restype = context
        for name in ("nft_ctx_buffer_error", "nft_ctx_buffer_output", "nft_ctx_free"):
            getattr(library, name).argtypes = [context]
        for name in ("nft_ctx_get_error_buffer", "nft_ctx_get_output_buffer"):
            getattr(library, name).argtypes = [context]
            getattr(library, name).restype = ctypes.c_char_p
        library.nft_run_cmd_from_buffer.argtypes = [context, ctypes.c_char_p]

    def run(self, commands: str) -> str:
        """Carries out all of the commands or none; returns what is wrong, empty for nothing."""
        if self._library.nft_run_cmd_from_buffer(self._context, commands.encode()) == 0:
            return ""
        said: bytes = self._library.nft_ctx_get_error_buffer(self._context)
        lines = said.decode(errors="replace").strip().splitlines()
        return lines[0].removeprefix("Error: ") if lines else "no reason given"

    def has_table(self, name: str) -> bool:
        """True when the namespace has that table in family inet."""
        self.run("list tables inet")
        listed: bytes = self._library.nft_ctx_get_output_buffer(self._context)
        return name in listed.decode(errors="replace").split()

    def close(self) -> None:
        """Remove what it made with ``flags owner``."""
        self._library.nft_ctx_free(self._context)
