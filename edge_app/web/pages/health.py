"""The health of the box, and what it is."""

from importlib.metadata import version
from platform import python_version

from starlette.responses import Response

from edge_app.health.drift import SUM_LIMIT, drifts
from edge_app.health.status import skipped_files
from edge_app.store.database import seconds_since
from edge_app.store.durable import free_bytes
from edge_app.web.auth import PERMISSIONS, ROLES
from edge_app.web.site import Site, Visitor
from edge_app.web.words import PERMISSION_NAMES, SOURCES, ago, duration
from keras_realmnet import __version__

__all__ = ["about", "health"]


def health(visitor: Visitor) -> Response:
    site = visitor.site
    counts, config = site.store.counts(), site.config
    waiting = counts.oldest_pending_seconds
    oldest = max((each.oldest_seconds for each in site.store.waiting_deliveries()), default=None)
    return visitor.page(
        "health.html.j2",
        problems=site.problems(),
        skipped_files=skipped_files(site.store),
        drifts=drifts(site.store, site.bundles),
        sum_limit=SUM_LIMIT,
        dropped=site.store.dropped(),
        tiles=[
            (f"{counts.items['pending'] + counts.items['screening']:,}", "waiting or being screened"),
            ("–" if waiting is None else duration(waiting), "the oldest of them has waited"),
            (f"{counts.items['done']:,}", "screened"),
            (
                "–" if counts.last_success is None else f"{duration(seconds_since(counts.last_success))} ago",
                "last result",
            ),
            (f"{counts.items['quarantined']:,}", "in quarantine"),
            (f"{counts.deliveries['pending']:,}", "deliveries waiting"),
            ("–" if oldest is None else duration(oldest), "the oldest of these has waited"),
            (f"{counts.deliveries['dead']:,}", "deliveries given up"),
            (f"{free_bytes(config.data_dir) / 2**30:,.1f} GB", "free on the disk"),
        ],
        senders=_last_received(site),
        receivers=_last_delivered(site),
        box={
            "web page": "this machine only, without login" if site.local else "login, encrypted",
            "DICOM": f"{config.dicom.ae_title}, port {config.dicom.port}" if config.dicom.enabled else "off",
            "watched folders": [folder.name for folder in config.folder] or "none",
            "destinations": [destination.name for destination in config.destination] or "none",
            "takes nothing in below": f"{config.disk.free_mb:,} MB of free disk",
            "keeps results for": f"{config.retention.days} days" if config.retention.days else "ever",
        },
        versions={
            "this software": __version__,
            "model": ", ".join(f"{bundle.name} {bundle.version}" for bundle in site.bundles),
            "Python": python_version(),
            **{name: version(name) for name in ("ai-edge-litert", "opencv-python-headless", "pydicom", "pynetdicom")},
        },
    )


def _last_received(site: Site) -> dict[str, str]:
    """{who sends: when something last came from there}, watched folders that have had nothing included."""
    last: dict[tuple[str, str], str | None] = {("folder", folder.name): None for folder in site.config.folder}
    last |= site.store.last_received()
    return {f"{SOURCES.get(source, source)} {origin}": ago(at) for (source, origin), at in last.items()}


def _last_delivered(site: Site) -> dict[str, str]:
    """{destination: when a result last arrived there}, also of destinations that are no longer configured."""
    last: dict[str, str | None] = {destination.name: None for destination in site.config.destination}
    last |= site.store.last_deliveries()
    return {name: ago(at) for name, at in last.items()}


def about(visitor: Visitor) -> Response:
    return visitor.page("about.html.j2", roles=ROLES, permissions=PERMISSIONS, permission_names=PERMISSION_NAMES)
