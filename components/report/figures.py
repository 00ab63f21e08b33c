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
from components.report.figures_search import search_figure
from components.report.figures_search_agreement import rung_agreement_figure
from components.report.figures_search_confirmation import confirmation_figure
from components.report.figures_search_cost import trial_cost_figure
from components.report.figures_search_importance import importance_figure
from components.report.figures_search_parallel import parallel_coordinates
from components.report.figures_search_pareto import pareto_figure
from components.report.figures_search_survival import rung_survival_figure
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
    "parallel_coordinates",
    "pareto_figure",
    "range_test_figure",
    "range_tests_figure",
    "roc_figure",
    "rung_agreement_figure",
    "rung_survival_figure",
    "sample_grid",
    "score_histogram",
    "search_figure",
    "shortcuts_figure",
    "split_counts",
    "trial_cost_figure",
    "weight_decay_figure",
]
