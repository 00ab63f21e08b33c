"""A backbone without its classifier: from images to the features that a classifier would get."""

from components.models.backbones import BuiltModel, build_model


def build_embedder(*, backbone: str, weights: str, seed: int) -> BuiltModel:
    """Build a model that returns pooled features, (B, F), instead of logits.

    backbone, weights, seed, and what is raised: as for `build_model`.
    """
    built = build_model(backbone=backbone, weights=weights, num_classes=2, drop_rate=0.0, drop_path_rate=0.0, seed=seed)
    # Every model of timm's has such a method.
    built.model.reset_classifier(0)  # type: ignore[operator]
    return built
