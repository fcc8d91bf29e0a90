"""Results as the files that leave the box: each made once, and then kept."""

import json
from pathlib import Path

import cv2
import numpy as np
from pydicom import Dataset

from edge_app.dicom.header import read_attributes
from edge_app.present import exports, fhir
from edge_app.present.dicom_object import encode
from edge_app.present.heat_map import heat_map
from edge_app.present.pictures import read_map
from edge_app.present.segmentation import segmentation
from edge_app.present.structured_report import structured_report
from edge_app.store.durable import write_durably
from edge_app.store.records import Result
from edge_app.store.store import Store
from keras_realmnet.errors import RealMNetError

__all__ = ["SUFFIXES", "render"]

SUFFIXES = {"sr": "sr.dcm", "sc": "sc.dcm", "seg": "seg.dcm", "json": "json", "csv": "csv", "fhir": "fhir.json"}


def render(store: Store, result: Result, kind: str) -> Path:
    """The result's file of this kind and revision, made once and then kept: every destination gets the same bytes.

    Raises RealMNetError where there cannot be one, OSError where it cannot be written or its source be read.
    """
    folder = store.result_dir(result.item.id)
    path = folder / f"result-r{result.revision}.{SUFFIXES[kind]}"
    if not path.exists():
        write_durably(path, _content(store, result, kind, folder))
    return path


def _content(store: Store, result: Result, kind: str, folder: Path) -> bytes:
    if kind == "csv":
        return exports.as_csv([result]).encode()
    if kind in ("json", "fhir"):
        content = exports.as_dict(result) if kind == "json" else fhir.bundle(result)
        return json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False).encode()
    source = read_attributes(store.object_path(result.item))
    if kind == "sr":
        predecessor = store.delivered_revision(result.item.id, kind, result.revision)
        document = structured_report(result.record, source, result.revision, predecessor)
    elif kind == "seg":
        document = segmentation(result.record, source, result.revision)
    else:
        document = _heat_map(result, source, folder)
    store.made_result(document.SOPInstanceUID)  # it is known when it comes back
    return encode(document)


def _heat_map(result: Result, source: Dataset, folder: Path) -> Dataset:
    """Drawn from the preview and the class maps that the worker left."""
    record = result.record
    encoded = np.frombuffer((folder / "preview.jpg").read_bytes(), np.uint8)
    preview = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB) if encoded.size else None
    if preview is None or record.evidence is None:
        raise RealMNetError(f"item {result.item.id}: the preview is damaged, or there is no evidence to draw")
    class_map, geometry = read_map(folder, record, record.evidence, preview.shape[:2])
    return heat_map(record, source, np.asarray(preview, np.uint8), class_map, geometry, result.revision)
