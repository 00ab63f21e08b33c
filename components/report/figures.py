"""Every figure under one name; each lives in the file of its subject."""

from components.report.figures_data import gallery, sample_grid, split_counts
from components.report.figures_evaluation import confusion_figure, roc_figure, score_histogram
from components.report.figures_lr import range_test_figure
from components.report.figures_search import search_figure
from components.report.figures_training import learning_curves

__all__ = [
    "confusion_figure",
    "gallery",
    "learning_curves",
    "range_test_figure",
    "roc_figure",
    "sample_grid",
    "score_histogram",
    "search_figure",
    "split_counts",
]
