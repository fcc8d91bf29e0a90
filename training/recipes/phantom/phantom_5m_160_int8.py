"""The demonstration model, fine-tuned with fake quantization so that all its pointwise convolutions can be int8.

Command:  python -m training fit --recipe phantom_5m_160_int8 --out runs/phantom_5m_160_int8
Duration: about 4 minutes on 2 busy cores (TensorFlow)
Score:    678 held-out phantoms of 140 patients: macro AUROC .976 (95 % interval .968 to .983), mAP .905 (.878 to .926);
          what it does for int8 is in docs/performance.md
"""

from dataclasses import replace

from training.datasets.made.phantom import PhantomDataSet
from training.recipe import Phase
from training.recipes.phantom import phantom_5m_160

RECIPE = replace(
    phantom_5m_160.RECIPE,
    name="phantom_5m_160_int8",
    data=PhantomDataSet(train_patients=160),  # weights only move by a fraction of a level
    weights="runs/phantom_5m_160",
    fake_quantization="int8_pointwise",
    phases=(Phase(epochs=1, size=160),),
    drop_path_rate=0.0,
    learning_rate=3e-5,
    warmup_epochs=0.1,
)
