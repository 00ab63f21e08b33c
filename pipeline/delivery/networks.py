"""The trained networks of a model: their scores of images that they had not seen, and what they cost to serve."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import log_softmax

from components.data.loader import ImageSet
from components.data.stratify import draw_by_class
from components.evaluation.transfer import SeenScores
from components.models.forward import Ensemble, MemberModel, Preprocessing, restore_member
from components.models.views import allowed_views, nested_views
from components.serving.latency import REPEATS, latency_ms
from components.training.engine import Learner
from pipeline.compute.resources import driver_compute
from pipeline.delivery.assembly import Assembly, Unseen
from pipeline.delivery.export import Part, network_member
from pipeline.delivery.members import Trained
from pipeline.sections.recipe import Recipe
from pipeline.stage import StageContext
from pipeline.training.build import new_learner, view_scores
from pipeline.training.data import TrainingData
from pipeline.training.job import TrainingSpec

#: Images that a model was trained on, by whose scores a threshold is carried over to another model.
SEEN_IMAGES = 300
Combine = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Networks:
    """recipe: of all. learner: its model holds the weights of the first member. views: in the order of `nested_views`;
    counts: how many of them may be averaged. frozen: (R, K) logits of the classifier on frozen features by row of the
    manifest, NaN where it has none.
    """

    data: TrainingData
    recipe: Recipe
    trained: Sequence[Trained]
    learner: Learner
    views: tuple[int, ...]
    counts: tuple[int, ...]
    frozen: np.ndarray

    @property
    def folds(self) -> np.ndarray:
        """(M,) int, rising: those that a network was trained without."""
        return np.array([one.fold for one in self.trained], dtype=np.int64)

    def out_of_fold(self) -> Unseen:
        """Every image that a network has not seen, but those of the test split, in the manifest's order."""
        folds = self.data.manifest["fold"].to_numpy()
        scored = np.isin(folds, self.folds)
        scores = np.empty((len(self.views), len(folds), len(self.data.classes)), dtype=np.float32)
        for one in self.trained:
            found = one.store.best().views
            assert found is not None  # scored after the last epoch
            scores[:, folds == one.fold] = found
        return self._unseen(scored, scores[:, scored])

    def of_split(self, split: str, count: int) -> Unseen:
        """A split of the hold-out design, scored by the single network in so many views."""
        images = self.data.split(split)
        scores = view_scores(self.learner.model, images, self.learner, self.views[:count])
        return self._unseen(self.data.manifest["split"].eq(split).to_numpy(), scores)

    def on_seen(self, whole: Trained, combine: Combine, count: int) -> SeenScores:
        """Logits (A, K) of images that the models were trained on: of the folds' networks, and of the delivered one.

        count: of views. combine: from log-probabilities (V, A, K) of a network, and (A, K) of the classifier on frozen
        features.
        """
        images, folds = self.data.split("train"), self.data.manifest.query("split == 'train'")["fold"].to_numpy()
        frozen = self.frozen[self.data.manifest["split"].eq("train").to_numpy()].astype(np.float64)
        chosen = draw_by_class(images.labels, size=SEEN_IMAGES, seed=self.learner.seed)
        scores = np.empty((count, len(chosen), len(self.data.classes)), dtype=np.float32)
        # Each image is scored by the network of the next fold, which has seen it: there are two or more.
        next_fold = np.searchsorted(self.folds, folds[chosen], side="right") % len(self.trained)
        for number, one in enumerate(self.trained):
            own = next_fold == number
            if own.any():
                scores[:, own] = self._scores(one, images.take(chosen[own]), count)
        known = log_softmax(frozen[chosen], axis=1)
        delivered = self._scores(whole, images.take(chosen), count)
        return SeenScores(folds=combine(scores, known), delivered=combine(delivered, known))

    def _scores(self, one: Trained, images: ImageSet, count: int) -> np.ndarray:
        self.learner.model.load_state_dict(one.store.best().weights)
        return view_scores(self.learner.model, images, self.learner, self.views[:count])

    def parts(self, delivered: Sequence[Trained], assembly: Assembly) -> list[Part]:
        """The networks of a model, which share their weight."""
        return [
            Part(
                member=network_member(
                    self.recipe,
                    self.learner.preprocessing,
                    side=self.data.pack.framing.size,
                    weight=assembly.network / len(delivered),
                    views=self.views[: assembly.views],
                ),
                state=one.store.best().weights,
            )
            for one in delivered
        ]

    def latency(self, count: int, counts: Sequence[int], *, threads: int) -> Mapping[int, float]:
        """Milliseconds for one image of an ensemble of so many of these networks, by number of views."""
        return {views: self._latency([self._member(views)] * count, threads) for views in counts}

    def latency_with(self, frozen: MemberModel, count: int, views: int, *, threads: int) -> float:
        """The same together with the classifier on frozen features."""
        return self._latency([*[self._member(views)] * count, frozen], threads)

    def frozen_member(self, part: Part) -> MemberModel:
        """The classifier on frozen features, where the networks are."""
        member, target = part.member, self.learner.device.target
        model = restore_member(vars(member), len(self.data.classes), part.state, target, where="the frozen classifier")
        preprocessing = Preprocessing.from_unit_scale(member.mean, member.std, size=member.input_size)
        return MemberModel(model, preprocessing.to(target), "float32", weight=1.0, views=member.views)

    def _member(self, views: int) -> MemberModel:
        learner = self.learner
        return MemberModel(
            learner.model.eval(),
            learner.preprocessing.to(learner.device.target),
            learner.device.precision,
            weight=1.0,
            views=self.views[:views],
        )

    def _latency(self, members: Sequence[MemberModel], threads: int) -> float:
        return latency_ms(Ensemble(tuple(members)), side=self.data.pack.size, threads=threads, repeats=REPEATS)

    def _unseen(self, which: np.ndarray, scores: np.ndarray) -> Unseen:
        rows = self.data.manifest[which]
        position = {name: number for number, name in enumerate(self.data.classes)}
        return Unseen(
            rows=rows,
            labels=rows["label"].map(position).to_numpy(dtype=np.int64),
            views=scores,
            frozen=log_softmax(self.frozen[which].astype(np.float64), axis=1),
        )


def load_networks(
    context: StageContext, data: TrainingData, spec: TrainingSpec, trained: Sequence[Trained]
) -> Networks:
    """Networks that were trained by the spec, in the precision that they were trained in, maybe on another machine."""
    recipe, compute = spec.recipe, driver_compute(context.compute)
    learner = new_learner(recipe, data, total_epochs=spec.epochs, seed=spec.seed, compute=compute)
    learner.model.load_state_dict(trained[0].store.best().weights)
    learner.device = replace(learner.device, precision=trained[0].ended.precision)
    allowed = allowed_views(recipe.recipe.augment, recipe.recipe.augment_strength)
    return Networks(
        data=data,
        recipe=recipe,
        trained=trained,
        learner=learner,
        views=nested_views(allowed),
        counts=tuple(sorted(allowed)),
        frozen=np.load(context.input("embed", "frozen_logits.npy"), allow_pickle=False),
    )
