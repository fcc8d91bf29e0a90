"""The study of graded faults: its scores against scikit-learn and by hand, its counts on pictures."""

from pathlib import Path

import cv2
import numpy as np
from sklearn.metrics import roc_auc_score

from training.benchmarks.gradability import Graded, rows_of, verdicts
from training.phantoms.degradations import degraded


def test_one_phantom_is_judged_at_all_strengths() -> None:
    found = rows_of("dark", "colour_fundus", 1, 256)
    assert found.margins.shape == found.refused.shape == (1, 11)
    assert found.lost.tolist() == [False] * 6 + [True] * 5
    assert not found.refused[0, 0]
    assert found.refused[0, 10]
    np.testing.assert_array_equal(found.refused, found.margins < 0)
    assert found.auroc() == roc_auc_score(found.lost, -found.margins[0])


def test_scores_of_made_up_margins() -> None:
    margins = np.tile(np.linspace(1, -1, 11), (3, 1))
    perfect = Graded("colour_fundus", "blur", margins, margins < 0)
    assert perfect.auroc() == 1
    assert perfect.interval() == (1, 1)
    assert perfect.not_monotone == 0
    back = margins.copy()
    back[1, 10] = 0.5
    again = Graded("colour_fundus", "blur", back, back < 0)
    assert again.not_monotone == 1
    assert again.auroc() < 1


def test_verdicts_are_counted_with_their_causes(tmp_path: Path) -> None:
    for strength in (0, 10):
        image = degraded("dark", strength, 3, "colour_fundus", width=256)
        cv2.imwrite(str(tmp_path / f"{strength}.png"), image[..., ::-1])
    (tmp_path / "notes.txt").write_text("no picture")
    said, causes = verdicts(tmp_path, "colour_fundus")
    assert said == {"gradable": 1, "insufficient": 1}
    assert causes == {"Too dark": 1}
