"""Every figure under one name; each lives in the file of its subject."""

from components.report.figures_audit import (
    groups_gallery,
    leakage_figure,
    near_duplicate_figure,
    pairs_gallery,
    shortcuts_figure,
)
from components.report.figures_backbones import backbones_figure
from components.report.figures_data import augmentation_grid, gallery, sample_grid, split_counts
from components.report.figures_evaluation import confused_pairs_figure, confusion_figure, roc_figure, score_histogram
from components.report.figures_lr import range_test_figure
from components.report.figures_range_tests import range_tests_figure, weight_decay_figure
from components.report.figures_search import importance_figure, pareto_figure, search_figure
from components.report.figures_search_agreement import rung_agreement_figure
from components.report.figures_search_confirmation import confirmation_figure
from components.report.figures_training import learning_curves

__all__ = [
    "augmentation_grid",
    "backbones_figure",
    "confirmation_figure",
    "confused_pairs_figure",
    "confusion_figure",
    "gallery",
    "groups_gallery",
    "importance_figure",
    "leakage_figure",
    "learning_curves",
    "near_duplicate_figure",
    "pairs_gallery",
    "pareto_figure",
    "range_test_figure",
    "range_tests_figure",
    "roc_figure",
    "rung_agreement_figure",
    "sample_grid",
    "score_histogram",
    "search_figure",
    "shortcuts_figure",
    "split_counts",
    "weight_decay_figure",
]
