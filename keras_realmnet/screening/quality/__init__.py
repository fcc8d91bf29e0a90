"""Is this the kind of picture the model was trained on, and does it show enough to be screened?

Two questions, in this order. Another kind of picture is "not_analysed" (an angiogram, an infrared or a camera picture
where a red/green ultra-widefield one is expected); the right kind that shows too little is "insufficient". Neither is
ever a negative result. The thresholds separate the pictures named beside them; they were not set on patients of a
clinic, and no reader study stands behind them.
"""

from keras_realmnet.screening.quality.gate import Measured, assess, gate_facts, margin, measured
from keras_realmnet.screening.quality.kind import MODALITIES, MODALITY_NAMES
from keras_realmnet.screening.quality.macula import fovea_away
from keras_realmnet.screening.quality.measures import REDUCED_SIZE
from keras_realmnet.screening.quality.verdict import Quality, Shortfall, Verdict, shortfall_from_dict

__all__ = [
    "MODALITIES",
    "MODALITY_NAMES",
    "REDUCED_SIZE",
    "Measured",
    "Quality",
    "Shortfall",
    "Verdict",
    "assess",
    "fovea_away",
    "gate_facts",
    "margin",
    "measured",
    "shortfall_from_dict",
]
