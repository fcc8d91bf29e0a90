"""How the report names scores."""

__all__ = ["CLASS_SCORES", "NAMES"]

NAMES = {
    "macro_f1": "F1 (macro)",
    "macro_precision": "Precision (macro)",
    "macro_recall": "Recall (macro)",
    "micro_f1": "F1 (micro)",
    "map": "mAP",
    "macro_auroc": "AUROC (macro)",
    "micro_auroc": "AUROC (micro)",
    "hamming_loss": "Hamming loss",
    "coverage_error": "Coverage",
    "ranking_loss": "Ranking loss",
    "brier": "Brier (mean)",
    "exact_match": "Exact match",
    "pathologic_auroc": "AUROC, pathologic",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
}
CLASS_SCORES = {"f1": "F1", "ap": "Average precision", "auroc": "AUROC"}
