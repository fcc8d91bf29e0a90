"""Pictures with an outcome and a truth, written as one word each."""

from training.scoring.clinic.figures import Judged

OUTCOME = {"r": "refer", "n": "negative", "i": "insufficient", "x": "not_analysed", "d": "described", "u": "uncertain"}
TRUTH = {"+": True, "-": False, "?": None}
REASONS = {
    "i": ("Out of focus: sharpness 0.31 (at least 0.45).",),
    "x": ("A grey picture: saturation 0.1.", "Too small: 1 x 1."),
}


def judged(word: str, patient: str, eye: str | None = None, source: str | None = None, margin: float = 0.6) -> Judged:
    """`r+`: referred, and to be referred; see OUTCOME and TRUTH."""
    said, true = word
    return Judged(f"{patient}.jpg", patient, eye, OUTCOME[said], REASONS.get(said, ()), TRUTH[true], source, margin)


def cohort(**counts: int) -> list[Judged]:
    """So many patients with one picture of each word; `rp`, `rn`, `ru` for r+, r-, r?."""
    signs = {"p": "+", "n": "-", "u": "?"}
    words = [name[0] + signs[name[1]] for name, number in counts.items() for _ in range(number)]
    return [judged(word, f"P{k}") for k, word in enumerate(words)]
