"""What the servers count, for Prometheus, on a loopback port of its own."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ntmobile.wire.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class Counted:
    """A family of counters, read when it is asked for; they only grow."""

    name: str
    help: str
    label: str
    read: Callable[[], Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Measured:
    """A number that goes up and down."""

    name: str
    help: str
    read: Callable[[], int]


class Metrics(Collector):
    """Everything that one process counts."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._sources: list[Counted | Measured] = []
        self._server: tuple[WSGIServer, Thread] | None = None

    def add(self, source: Counted | Measured) -> None:
        """Show this from now on."""
        self._sources.append(source)

    @property
    def endpoint(self) -> Endpoint | None:
        """Where they are served; None when they are not."""
        if self._server is None:
            return None
        host, port = self._server[0].server_address[:2]
        return Endpoint(str(host), port)

    def serve(self, endpoint: Endpoint) -> None:
        """Open the port, with a thread of its own; raises OSError."""
        registry = CollectorRegistry()
        registry.register(self)
        host = str(endpoint.host)
        self._server = start_http_server(endpoint.port, host, registry)

    def close(self) -> None:
        """Close the port."""
        if self._server is not None:
            server, thread = self._server
            server.shutdown()
            server.server_close()
            thread.join()
            self._server = None

    def collect(self) -> Iterable[Metric]:
        """All numbers now."""
        for source in self._sources:
            match source:
                case Measured(name, text, read):
                    yield GaugeMetricFamily(name, text, value=read())
                case Counted(name, text, label, read):
                    family = CounterMetricFamily(name, text, labels=[label])
                    for key, count in sorted(dict(read()).items()):
                        family.add_metric([key.replace(" ", "_")], count)
                    yield family
