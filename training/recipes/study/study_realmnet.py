"""RealMNet made small enough for two cores, from scratch, on the phantom study of five hospitals.

Command:  python -m training phantom-study --out data/study
          python -m training protocol cip --recipe study_realmnet --data data/study
Duration: three to seven minutes on one core
Score:    CIP test (534 phantoms, 181 patients): macro AUROC .919 (.897 to .938), mAP .697 (.646 to .757)
"""

from training.data.resampling import Resampling
from training.datasets.found.psmm import PsmmDataSet
from training.input.augmentation import Augmentation
from training.recipe import Phase, Recipe

RECIPE = Recipe(
    name="study_realmnet",
    data=PsmmDataSet(folder="data/study"),
    resampling=Resampling("ml-rus"),
    preset="realmnet_5m_224",
    model_options={"embed_dims": [32, 64, 96, 160], "depths": [1, 1, 2, 1], "num_heads": [1, 2, 3, 5]},
    phases=(Phase(epochs=12, size=96),),
    batch_size=16,
    drop_path_rate=0.05,
    learning_rate=1e-3,  # from scratch; 1e-4 is for fine-tuning
    warmup_epochs=1,
    augmentation=Augmentation(hue=0.05, mixup=0.0, cutmix=0.0, erase=0.1),  # as for the demonstration model
    validate_every=4,
)
