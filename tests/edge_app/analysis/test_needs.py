"""A bundle that needs the macula: pictures that do not show it are insufficient for it, and say by which measure."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from edge_app.analysis.screen import Screener
from keras_realmnet.screening.quality import Shortfall
from keras_realmnet.screening.record import ScreeningRecord
from training.phantoms.photograph import render_photograph

BUNDLES = Path(__file__).resolve().parents[3] / "bundles"


def screened(screener: Screener, folder: Path, off: float) -> ScreeningRecord:
    """What is said of a drawn photograph that looks `off` radii beside the fovea, after it was stored and read."""
    image = render_photograph(5, width=512, label="N", poor=False, off=off).image
    file = folder / f"{off}.png"
    cv2.imwrite(str(file), image[..., ::-1])
    record = screener.screen(file, None, None)
    return ScreeningRecord.from_dict(json.loads(record.to_json()))


@pytest.mark.parametrize("name", ["lesions-lite", "fundus-structures"])
def test_a_bundle_that_needs_the_macula(name: str, tmp_path: Path) -> None:
    screener = Screener.open(BUNDLES / name)
    without, needing = (
        replace(screener, bundle=replace(screener.bundle, task=replace(screener.bundle.task, needs=needs)))
        for needs in ((), ("macula",))
    )
    assert screened(without, tmp_path, 0.9).analysed
    assert screened(needing, tmp_path, 0.0).analysed
    record = screened(needing, tmp_path, 0.9)
    assert record.outcome == "insufficient"
    assert record.reasons[0].startswith("The macula is not in the field")
    assert not record.findings
    (shortfall,) = record.shortfalls
    assert shortfall == Shortfall("macula_distance", shortfall.value, "at most", 0.53)
    assert shortfall.value > 0.53
    assert f"{shortfall.value:.2f} of the field's radius from its middle (at most 0.53)" in record.reasons[0]
