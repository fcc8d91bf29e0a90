"""The demonstration model once more, taught by an ensemble of three like it: does it tell more at no cost on the box?

Command:  python -m training fit --recipe phantom_5m_224_distilled --out runs/phantom_5m_224_distilled
Duration: 43 minutes on one busy core (TensorFlow) for a part of it, 9 of them the teachers' answers
Score:    a part of it (docs/training.md): 678 held-out phantoms of 140 patients: macro AUROC .960 (95 % interval .949
          to .971), mAP .864 (.837 to .890); without a teacher .960 and .867: no difference beyond chance

The teachers are three runs of phantom_5m_224 that differ from their first step on, each from a phantom_5m_160 of its
own, and the mean of what they say:

    for seed in 1 2 3; do
      python -m training fit --recipe phantom_5m_160 --seed $seed --out runs/teacher_160_$seed
      python -m training fit --recipe phantom_5m_224 --seed $seed --out runs/teacher_$seed \\
        --set weights=runs/teacher_160_$seed
    done
    python -m training ensemble runs/teacher_1 runs/teacher_2 runs/teacher_3 --out runs/phantom_5m_224_ensemble

What it is to be held against is phantom_5m_224 itself: the same start, seed and budget, without a teacher.
"""

from dataclasses import replace

from training.recipes.phantom import phantom_5m_224

RECIPE = replace(
    phantom_5m_224.RECIPE,
    name="phantom_5m_224_distilled",
    teacher="runs/phantom_5m_224_ensemble",
)
