"""Many small trainings at once, for `operating_point.py`: drawn parts, perceptrons and logistic regressions.

A problem has good parts and four kinds of defects, from plain to subtle, in 16 features of which most say nothing. All
models of R runs are trained together, as one batched product of matrices; each has its own start, order of images and
noise, so that they are as independent as trainings one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

FEATURES = 16
#: How far each kind of defect lies from good parts, in standard deviations along a direction of its own.
DISTANCES = (2.5, 3.5, 4.5, 5.5)
BATCH = 32
#: Standard deviation of the noise that is added in training and to each view but the first.
VIEW_NOISE = 0.4
#: Share of the variance that images of one part have in common.
COMMON = 0.6


@dataclass(frozen=True)
class Setting:
    """What is inspected. defective: share of parts; wrong_labels: share of parts that have the wrong label."""

    name: str
    parts: int
    images_per_part: int
    defective: float
    wrong_labels: float


@dataclass(frozen=True)
class Images:
    """Of R runs: features (R, N, FEATURES), is_defect (R, N) bool as labelled; groups (N,), the same in each run."""

    features: torch.Tensor
    is_defect: torch.Tensor
    groups: torch.Tensor


@dataclass(frozen=True)
class Recipe:
    """How a perceptron with one hidden layer is trained: Adam, cosine to nothing."""

    width: int
    rate: float
    epochs: int


@dataclass(frozen=True)
class Networks:
    """M networks in each of R runs: first (R, D, M, H), hidden biases (R, M, H), last (R, M, H), bias (R, M)."""

    first: torch.Tensor
    shift: torch.Tensor
    last: torch.Tensor
    bias: torch.Tensor

    def log_odds(self, features: torch.Tensor) -> torch.Tensor:
        """(R, M, N) of features (R, N, D)."""
        runs, _, models, width = self.first.shape
        hidden = torch.baddbmm(self.shift.reshape(runs, 1, -1), features, self.first.reshape(runs, FEATURES, -1))
        hidden = hidden.relu_().view(runs, -1, models, width)
        return torch.einsum("rnmh,rmh->rmn", hidden, self.last) + self.bias[..., None]


def draw(setting: Setting, *, runs: int, generator: torch.Generator) -> Images:
    """Labelled images to develop with."""
    truth = torch.rand(runs, setting.parts, generator=generator) < setting.defective
    return _images(setting, truth, generator)


def draw_fresh(setting: Setting, *, runs: int, images: int, defective: bool, generator: torch.Generator) -> Images:
    """Images of parts that are labelled defective, or good, as the line would bring them."""
    parts = images // setting.images_per_part
    share, wrong = setting.defective, setting.wrong_labels
    # Of the parts with this label, so many are what the label says.
    right = share * (1 - wrong) if defective else (1 - share) * (1 - wrong)
    other = (1 - share) * wrong if defective else share * wrong
    is_right = torch.rand(runs, parts, generator=generator) < right / (right + other)
    truth = is_right if defective else ~is_right
    drawn = _images(Setting("", parts, setting.images_per_part, share, 0.0), truth, generator)
    return Images(drawn.features, torch.full_like(drawn.is_defect, defective), drawn.groups)


def _images(setting: Setting, truth: torch.Tensor, generator: torch.Generator) -> Images:
    runs, parts = truth.shape
    each = setting.images_per_part
    kind = torch.randint(len(DISTANCES), (runs, parts), generator=generator)
    centres = torch.diag(torch.tensor(DISTANCES))[kind] * truth[..., None]
    centres = torch.nn.functional.pad(centres, (0, FEATURES - len(DISTANCES)))
    # A defect is seen from either side, which no linear classifier can tell.
    side = torch.where(torch.rand(runs, parts, 1, generator=generator) < 0.97, 1.0, -1.0)
    part = centres * side + COMMON**0.5 * torch.randn(runs, parts, FEATURES, generator=generator)
    image = (1 - COMMON) ** 0.5 * torch.randn(runs, parts, each, FEATURES, generator=generator)
    wrong = torch.rand(runs, parts, generator=generator) < setting.wrong_labels
    labels = (truth ^ wrong).repeat_interleave(each, dim=1)
    return Images((part[:, :, None] + image).flatten(1, 2), labels, torch.arange(parts).repeat_interleave(each))


def train(images: Images, used: torch.Tensor, recipe: Recipe, generator: torch.Generator) -> Networks:
    """Train M networks in each run, the m-th on the images that used (R, M, N) bool says; on as many in each."""
    runs, models, _ = used.shape
    count = int(used.sum(dim=2).min())
    size = (runs, models)
    weights = [
        torch.randn(*size, FEATURES, recipe.width, generator=generator) * (2 / FEATURES) ** 0.5,
        torch.zeros(*size, 1, recipe.width),
        torch.randn(*size, recipe.width, 1, generator=generator) * (1 / recipe.width) ** 0.5,
        torch.zeros(*size, 1, 1),
    ]
    for weight in weights:
        weight.requires_grad_()
    steps = max(1, count // BATCH)
    optimizer = torch.optim.Adam(weights, lr=recipe.rate, foreach=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.epochs * steps)
    run = torch.arange(runs)[:, None, None]
    targets = images.is_defect.float()
    for _ in range(recipe.epochs):
        order = (torch.rand(used.shape, generator=generator) - used.float()).argsort(dim=2)[..., :count]
        for step in range(steps):
            chosen = order[..., step * BATCH : (step + 1) * BATCH]
            batch = images.features[run, chosen]
            batch += VIEW_NOISE * torch.randn(batch.shape, generator=generator)
            hidden = (batch @ weights[0] + weights[1]).relu()
            found = (hidden @ weights[2] + weights[3])[..., 0]
            loss = binary_cross_entropy_with_logits(found, targets[run, chosen], reduction="sum") / BATCH
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    first, shift, last, bias = (weight.detach() for weight in weights)
    return Networks(first.permute(0, 2, 1, 3).contiguous(), shift[:, :, 0], last[..., 0], bias[:, :, 0, 0])


def train_linear(images: Images, used: torch.Tensor, *, penalty: float) -> Networks:
    """Logistic regressions on fixed random features (a frozen layer), by Newton's method; as in `train`."""
    runs, models, _ = used.shape
    generator = torch.Generator().manual_seed(0)
    width = 2 * FEATURES
    frozen = torch.randn(FEATURES, width, generator=generator) * (2 / FEATURES) ** 0.5
    offset = torch.randn(width, generator=generator)
    design = (images.features @ frozen + offset).relu()
    design = torch.cat([design, torch.ones(*design.shape[:2], 1)], dim=2)[:, None]
    ridge = penalty * torch.diag(torch.cat([torch.ones(width), torch.zeros(1)])) + 1e-4 * torch.eye(width + 1)
    values = torch.zeros(runs, models, width + 1, 1)
    targets = images.is_defect.float()[:, None, :, None]
    counted = used.float()[..., None]
    for _ in range(8):
        chance = torch.sigmoid(design @ values)
        slope = design.mT @ (counted * (chance - targets)) + ridge @ values
        bend = design.mT @ (design * (counted * chance * (1 - chance))) + ridge
        values = values - torch.linalg.solve(bend, slope)
    first = frozen[None, :, None].expand(runs, FEATURES, models, width).contiguous()
    shift = offset.expand(runs, models, width)
    return Networks(first, shift, values[..., :-1, 0], values[..., -1, 0])


def assign_folds(images: Images, folds: int, generator: torch.Generator) -> torch.Tensor:
    """(R, N) int: whole parts, stratified by label, at random."""
    each = int((images.groups == 0).sum())
    labels = images.is_defect[:, ::each].float()
    order = (labels * 2 + torch.rand(labels.shape, generator=generator)).argsort(dim=1)
    numbers = torch.empty_like(order)
    numbers.scatter_(1, order, torch.arange(labels.shape[1]).expand_as(order) % folds)
    return numbers.repeat_interleave(each, dim=1)
