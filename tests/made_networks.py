"""A network goes the whole way, from a step of training to what leaves the box: one line in `NETWORKS` for each."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest

from edge_app.__main__ import main as edge_app
from edge_app.outbox.documents import render
from edge_app.store.records import Result
from edge_app.store.store import Store
from export.__main__ import main as export
from export.bundling.from_run import bundle_from_run
from export.contract.parity import Parity
from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.screening.preprocessing import PreprocessSpec
from keras_realmnet.tasks.outputs import Grades, Labels
from keras_realmnet.tasks.task import Task
from tests.proofs import peers
from tests.training.fitting.marked import MarkedDataSet
from training.datasets import registry
from training.datasets.image_set import ImageSet
from training.fitting.fit import fit
from training.input.augmentation import Augmentation
from training.recipe import Phase, Recipe

ROOT = Path(__file__).resolve().parents[1]
ARTIFACTS = ("float32", "onnx-float32")
DOCUMENTS = ("sr", "csv", "fhir", "json")
TINY_VIT: Mapping[str, Any] = {"embed_dims": (8, 8, 8, 8), "depths": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1)}


@dataclass(frozen=True)
class Network:
    """`preset`: of the registry. `outputs`: some of `MarkedDataSet`. `options`: arguments that make it small.

    `loss`: where it is not the usual one, {output: loss}. `epochs`: so many that pictures differ in their answers by
    more than rounding, where a threshold is chosen between them.
    """

    preset: str
    outputs: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    loss: Mapping[str, str] | None = None
    epochs: int = 1


NETWORKS = {
    "labels of a RealMNet": Network("realmnet_5m_224", ("lesions",), TINY_VIT, epochs=20),
    "grades of a RealMNet": Network("realmnet_5m_224", ("dr",), TINY_VIT),
    "masks alone": Network("vessel_lite", ("disc",), {"widths": (4, 4, 8, 8)}),
    "every kind at once": Network(
        "edge_mobilenet_v2",
        ("disc", "lesions", "dr", "marks"),
        {"point_head": "offset_maps"},  # the other one is in the shipped bundle
        {"marks": "ConfidenceOffsets"},
        epochs=20,
    ),
}


@dataclass(frozen=True)
class Some:
    """`MarkedDataSet` with some of its outputs; the last label and the last grade are pathologic."""

    kind: ClassVar[str] = "some"

    outputs: tuple[str, ...] = ("lesions",)

    @property
    def task(self) -> Task:
        known = MarkedDataSet.task
        return replace(known, outputs={name: _with_referral(known.trained[name]) for name in self.outputs})

    def describe(self) -> str:
        return "drawn discs"

    def load(self, split: str, spec: PreprocessSpec, cache: Path) -> ImageSet:
        images = MarkedDataSet().load(split, spec, cache)
        truth, masks = (
            {name: values for name, values in there.items() if name in self.outputs}
            for there in (images.truth, images.masks)
        )
        return replace(images, truth=truth, masks=masks, task=self.task)


def _with_referral(output: Any) -> Any:
    if not isinstance(output, Labels | Grades):
        return output
    return replace(output, labels=replace(output.labels, pathologic=output.labels.codes[-1:]))


@dataclass(frozen=True)
class Way:
    """What the way left: the run's folder, the bundle, how near its artifacts are, the box's result and documents."""

    run: Path
    bundle: Bundle
    parity: dict[str, Parity]
    verified: int
    result: Result
    documents: dict[str, Path]
    page: Path


def whole_way(network: Network, folder: Path) -> Way:
    """Some epochs at 64 px, two engines, the contract, the bundle, a picture on the box."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # where the cache of the images goes
        patch.setitem(registry.DATA_SETS, Some.kind, Some)
        recipe = Recipe(
            name="tiny",
            data=Some(network.outputs),
            preset=network.preset,
            model_options=network.options,
            loss=network.loss,
            phases=(Phase(network.epochs, 64),),
            batch_size=6,
            learning_rate=1e-2,
            warmup_epochs=0,
            drop_path_rate=0.0,
            augmentation=Augmentation(mixup=0, cutmix=0),
        )
        fit(recipe, folder / "run")
        bundle, parity = bundle_from_run(folder / "run", folder / "bundle", artifacts=ARTIFACTS)
        arguments = ["verify", "bundle", "--run", "run", "--out", "report", "--save-reference", "reference.npz"]
        verified = export(arguments) or export(["verify", "bundle", "--reference", "reference.npz"])
    picture = next((ROOT / "samples" / "colour").glob("PHANTOM-*.jpg"))
    result, documents = _on_the_box(folder / "box", cv2.imread(str(picture))[..., ::-1], folder / "bundle")
    shutil.copy(picture, folder / picture.name)
    screened = ["screen", str(folder / picture.name), "--bundle", str(folder / "bundle"), "--out", str(folder / "out")]
    assert edge_app(screened) == 0
    return Way(folder / "run", bundle, parity, verified, result, documents, folder / "out" / "report.html")


def _on_the_box(data_dir: Path, pixels: np.ndarray, bundle: Path) -> tuple[Result, dict[str, Path]]:
    store = Store(data_dir)
    image = peers.ophthalmic(
        np.ascontiguousarray(pixels), Manufacturer="Maker", ImageType=["ORIGINAL", "PRIMARY", "", "COLOR"]
    )
    item = peers.take_in(store, peers.write(image, data_dir / "image.dcm"))
    peers.screen(store, peers.settings(data_dir), bundle)
    result = store.record(item.id)
    documents = {kind: render(store, result, kind) for kind in DOCUMENTS}
    store.close()
    return result, documents
