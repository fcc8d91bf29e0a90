"""The box in numbers for Prometheus: no label and no value tells anything about a patient."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from edge_app.config import Config
from edge_app.health.drift import IMAGES, SUM_LIMIT, drifts
from edge_app.store.durable import free_bytes
from edge_app.store.items import Item
from edge_app.store.store import Store
from keras_realmnet.screening.bundle.bundle import Bundle

__all__ = ["Metrics"]

LATENCY_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)


class Metrics:
    """What the box does, counted from its start; and its state, read from the store when it is asked."""

    def __init__(self, config: Config, store: Store, bundles: Sequence[Bundle] = ()):
        self._registry = CollectorRegistry()
        self._registry.register(_State(config, store))
        self._registry.register(_Drift(store, bundles))
        self._latency = Histogram(
            "realmnet_box_latency_seconds",
            "From the receipt of an image to its result",
            buckets=LATENCY_SECONDS,
            registry=self._registry,
        )
        self.deaths = Counter("realmnet_box_worker_deaths", "Deaths of the screening process", registry=self._registry)

    def count_broken(self, out_of_order: Callable[[], Mapping[str, bool]]) -> None:
        """From now on tells of each bundle, by name, whether it can screen."""
        self._registry.register(_Models(out_of_order))

    def observe(self, item: Item) -> None:
        """Counts an item that has just left the screening process."""
        if item.state == "done" and item.finished_at is not None:
            waited = datetime.fromisoformat(item.finished_at) - datetime.fromisoformat(item.received_at)
            self._latency.observe(max(0.0, waited.total_seconds()))  # the clock may have been set back meanwhile

    def render(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class _Models(Collector):
    def __init__(self, out_of_order: Callable[[], Mapping[str, bool]]):
        self._out_of_order = out_of_order

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily("realmnet_box_bundle_ready", "1: the bundle can screen; 0: not", labels=["bundle"])
        for name, broken in self._out_of_order().items():
            family.add_metric([name], float(not broken))
        yield family


class _Drift(Collector):
    """Of each bundle with a reference and each sender, see `drift.Drift`."""

    def __init__(self, store: Store, bundles: Sequence[Bundle]):
        self._store, self._bundles = store, bundles

    def collect(self) -> Iterator[Metric]:
        labels = ["bundle", "sender"]
        warning = GaugeMetricFamily(
            "realmnet_box_drift_warning",
            "1: pictures are no longer like the bundle's reference; 0: they are",
            labels=labels,
        )
        total = GaugeMetricFamily(
            "realmnet_box_drift_distance_sum",
            f"Cumulative sum of feature distances; a change above {SUM_LIMIT}",
            labels=labels,
        )
        index = GaugeMetricFamily(
            "realmnet_box_drift_index",
            f"Population stability index of the last {IMAGES} pictures, by its limit: a change above 1",
            labels=[*labels, "measure"],
        )
        for each in drifts(self._store, self._bundles):
            warning.add_metric([each.bundle, each.sender], float(bool(each.changed)))
            total.add_metric([each.bundle, each.sender], each.sum)
            for name, (value, limit) in each.indices.items():
                index.add_metric([each.bundle, each.sender, name], value / limit)
        yield from (warning, total, index)


class _State(Collector):
    def __init__(self, config: Config, store: Store):
        self._config, self._store = config, store

    def collect(self) -> Iterator[Metric]:
        counts = self._store.counts()
        for name, help_text, states in (
            ("items", "Images by state; pending is the queue", counts.items),
            ("deliveries", "Results in the outbox by state; dead ones were given up", counts.deliveries),
        ):
            family = GaugeMetricFamily(f"realmnet_box_{name}", help_text, labels=["state"])
            for state, number in states.items():
                family.add_metric([state], number)
            yield family
        waiting = GaugeMetricFamily(
            "realmnet_box_waiting_deliveries", "Results that wait to be sent", labels=["destination"]
        )
        oldest = GaugeMetricFamily(
            "realmnet_box_oldest_delivery_seconds", "Age of the oldest result that waits", labels=["destination"]
        )
        found = {outgoing.destination: outgoing for outgoing in self._store.waiting_deliveries()}
        for name in sorted({*found, *(destination.name for destination in self._config.destination)}):
            waiting.add_metric([name], found[name].number if name in found else 0)
            oldest.add_metric([name], found[name].oldest_seconds if name in found else 0)
        yield from (waiting, oldest)
        last = 0.0 if counts.last_success is None else datetime.fromisoformat(counts.last_success).timestamp()
        dropped = sum(each.number for each in self._store.dropped())
        for name, help_text, value in (
            ("dropped_objects", "DICOM objects received and dropped: no pictures", dropped),
            ("oldest_pending_seconds", "Age of the oldest image without a result", counts.oldest_pending_seconds or 0),
            ("last_success_timestamp_seconds", "When the last image was screened; 0: never", last),
            ("free_disk_bytes", "Free space where the data are", free_bytes(self._config.data_dir)),
            ("free_disk_watermark_bytes", "Below, nothing is taken in", self._config.disk.free_mb << 20),
        ):
            yield GaugeMetricFamily(f"realmnet_box_{name}", help_text, value)
