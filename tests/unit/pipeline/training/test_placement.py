"""Where trainings run, and what is done about workers that die."""

import contextlib
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from components.training.engine import EpochRecord
from pipeline.compute.resources import TrainingShare
from pipeline.config import ComputeConfig
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig
from pipeline.training import placement
from pipeline.training.job import Ended, Saved, TrainingSpec
from pipeline.training.placement import Failed, Job, placement_of_trainings, run_training, train_all, train_on_worker

SHARE = TrainingShare(concurrent=2, cpus=3, gpus=0.5)
PLACE = SimpleNamespace(share=SHARE)
SPEC = TrainingSpec(recipe=Recipe(model=ModelConfig(), recipe=RecipeConfig(lr=0.1, batch_size=32)), seed=0, epochs=3)
END = Ended(reason="completed", epoch=3, precision="float32", failure=None, ledger=[], advice=[], steps=[], groups=())


def saved(epoch: int) -> Saved:
    record = EpochRecord(
        epoch=epoch, step=epoch, train_loss=1.0, lr=0.1, lr_lowest=0.1, grad_norm=1.0, seconds=1.0,
        images_per_second=1.0, diverged=False, metrics={"val_score": 0.5},
    )  # fmt: skip
    return Saved(state={"epoch": epoch}, scored=None, epoch=record, steps=[])


class Store:
    def __init__(self) -> None:
        self.saved: list = []
        self.ended: Ended | None = None

    def state(self):
        return self.saved[-1].state if self.saved else None

    def save(self, item) -> None:
        if isinstance(item, Ended):
            self.ended = item
        else:
            self.saved.append(item)

    @property
    def progress(self):
        return SimpleNamespace(
            epochs_done=lambda: len(self.saved), steps_done=lambda: 0, note=lambda: "", history=self.saved
        )


def job(name: str = "a") -> Job:
    return Job(name=name, spec=SPEC, store=Store())


@pytest.fixture
def cluster(monkeypatch):
    """`cluster(lives)`: workers that each die after so many epochs, the last one not; what they were handed."""
    handed = []

    def install(*lives: int):
        left = iter(lives)

        def stream(function, tasks, *, cores, gpus, at_once):
            assert (cores, gpus, at_once) == (3, 0.5, 2)
            begun = 0
            while begun < len(tasks):
                task = tasks[begun]
                handed.append((task.name, task.earlier))
                begun += 1
                done = task.earlier["epoch"] if task.earlier else 0
                life = next(left, None)
                for epoch in range(done + 1, 4):
                    if epoch - done == (life if life is None else life + 1):
                        yield task, OSError("the node is gone")
                        break
                    yield task, saved(epoch)
                else:
                    yield task, END

        monkeypatch.setattr("components.cluster.stream_on_cluster", stream)
        return handed

    return install


def test_a_training_whose_worker_died_resumes_from_what_is_saved(cluster) -> None:
    handed = cluster(1, 0)
    one, told = job(), []
    train_all([one], PLACE, warn=told.append, on_event=lambda job, event: told.append(type(event).__name__))
    assert handed == [("a", None), ("a", {"epoch": 1}), ("a", {"epoch": 1})]
    assert [item.epoch.epoch for item in one.store.saved] == [1, 2, 3]
    died = "a: its worker was lost (OSError); it resumes on another one after epoch 1"
    assert told == ["Saved", died, died, "Saved", "Saved", "Ended"]


def test_a_training_that_kills_its_workers_ends_with_what_they_died_of(cluster) -> None:
    handed = cluster(0, 0, 0, 0, 0)
    deaths = []
    with pytest.raises(OSError, match="the node is gone") as caught:
        train_all([job()], PLACE, warn=deaths.append, on_event=lambda *a: None)
    assert len(handed) == 4
    assert len(deaths) == 3
    assert "a: its worker was lost 4 times" in caught.value.__notes__[0]


def test_what_has_ended_is_not_handed_over(cluster) -> None:
    handed = cluster()
    done = job("done")
    done.store.ended = END
    train_all([done, job("b")], PLACE, warn=print, on_event=lambda *a: None)
    assert [name for name, _ in handed] == ["b"]


@pytest.mark.parametrize("place", [PLACE, SimpleNamespace(share=None)], ids=["on workers", "here"])
def test_a_training_that_fails_is_raised_when_the_others_are_done(monkeypatch, place) -> None:
    def train(spec, place, *, earlier, on_steps=None):
        if spec.seed == 1:
            raise ValueError("no luck")
        yield saved(1)
        yield END

    def stream(function, tasks, **options):
        return ((task, item) for task in tasks for item in function(task))

    monkeypatch.setattr(placement, "train", train)
    monkeypatch.setattr("components.cluster.stream_on_cluster", stream)
    jobs = [Job(name=f"seed {n}", spec=replace(SPEC, seed=n), store=Store()) for n in (0, 1, 2)]
    with pytest.raises(ValueError, match="no luck") as caught:
        train_all(jobs, place, warn=print, on_event=lambda *a: None)
    assert [one.store.ended for one in jobs] == [END, None, END]
    assert "1 training failed, the first: seed 1" in caught.value.__notes__[-1]


def test_what_a_training_raises_leaves_a_worker_with_where_it_was(monkeypatch) -> None:
    monkeypatch.setattr(placement, "train", lambda *a, **k: 1 / 0)
    (failed,) = train_on_worker(SimpleNamespace(spec=SPEC, place=PLACE, earlier=None))
    assert isinstance(failed, Failed)
    assert "train_on_worker" in failed.error.__notes__[0]


def test_what_leaves_a_worker_needs_no_gpu_where_it_arrives(monkeypatch) -> None:
    moved = []

    class Elsewhere(torch.Tensor):
        def to(self, device, **how):
            moved.append(device)
            return torch.ones(2)

    tensor = torch.zeros(2).as_subclass(Elsewhere)
    item = Saved(state={"learner": {"model": {"w": tensor}, "steps": [1, (tensor, "x")]}}, scored=None,
                 epoch=saved(1).epoch, steps=[])  # fmt: skip
    monkeypatch.setattr(placement, "train", lambda *a, **k: iter([item, END]))
    first, last = train_on_worker(SimpleNamespace(spec=SPEC, place=PLACE, earlier=None))
    assert moved == ["cpu", "cpu"]
    assert first.state["learner"]["model"]["w"].tolist() == [1, 1]
    assert first.state["learner"]["steps"][1][1] == "x"
    assert last is END


def test_one_training_on_a_cluster_moves_its_bar_by_what_is_committed(cluster, monkeypatch) -> None:
    cluster()
    step = SimpleNamespace(step=2)
    bar: list[int] = []

    @contextlib.contextmanager
    def shown(description, total, *, done):
        assert (description, total, done) == ("training", 6, 0)
        yield lambda n, note: bar.append(n)

    context = SimpleNamespace(
        compute=ComputeConfig(ray_address="auto"),
        console=SimpleNamespace(bar=shown, warn=print),
        inputs={"prepare": SimpleNamespace(directory=None)},
    )
    monkeypatch.setattr(placement, "steps_per_epoch", lambda recipe, data: 2)
    monkeypatch.setattr(placement, "open_data", lambda folder: SimpleNamespace(folds=0))
    monkeypatch.setattr(placement, "task_placement", lambda context: contextlib.nullcontext(PLACE))
    monkeypatch.setattr(
        "components.cluster.stream_on_cluster", lambda function, tasks, **k: iter(
            [(tasks[0], Saved(state={}, scored=None, epoch=saved(1).epoch, steps=[step])), (tasks[0], END)]
        )
    )  # fmt: skip
    assert run_training(context, SPEC, Store()) is END
    assert bar == [2]


# --- several


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """Which kind of place was opened."""
    seen: list[str] = []

    @contextlib.contextmanager
    def local_ray(compute, share):
        seen.append("ray")
        yield

    @contextlib.contextmanager
    def work(context):
        seen.append("as one")
        yield SimpleNamespace(share=None)

    monkeypatch.setattr(placement, "ray_for", local_ray)
    monkeypatch.setattr(placement, "task_placement", work)
    monkeypatch.setattr(placement, "ship", lambda record, compute: record)
    return seen


@pytest.mark.parametrize(
    ("share", "trainings", "expected"),
    [
        (TrainingShare(concurrent=4, cpus=2, gpus=1.0), 6, "ray"),
        (TrainingShare(concurrent=4, cpus=2, gpus=0.25), 2, "ray"),
        (TrainingShare(concurrent=1, cpus=8, gpus=1.0), 6, "as one"),
        (TrainingShare(concurrent=4, cpus=2, gpus=1.0), 1, "as one"),
        (TrainingShare(concurrent=4, cpus=2, gpus=0.0), 6, "as one"),  # side by side on one CPU, none would be faster
    ],
)
def test_several_trainings_share_gpus_and_take_turns_on_a_cpu(opened, monkeypatch, share, trainings, expected) -> None:
    monkeypatch.setattr(placement, "check_compute", lambda compute: share)
    context = SimpleNamespace(inputs={"prepare": "record"}, compute=ComputeConfig())
    with placement_of_trainings(context, trainings=trainings) as place:
        assert opened == [expected]
        if expected == "ray":
            assert (place.prepared, place.threads, place.share) == ("record", share.cpus, share)


def test_on_a_cluster_its_own_place_is_taken(opened, monkeypatch) -> None:
    monkeypatch.setattr(placement, "check_compute", None)  # the cluster is asked once, by the place itself
    context = SimpleNamespace(inputs={"prepare": "record"}, compute=ComputeConfig(ray_address="auto"))
    with placement_of_trainings(context, trainings=6):
        assert opened == ["as one"]
