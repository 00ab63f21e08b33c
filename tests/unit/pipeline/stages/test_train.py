"""What the stage train trains."""

from types import SimpleNamespace

from trainings import SPEC

from pipeline.stages import train


def test_without_each_of_the_folds_a_network_is_trained_or_one_on_the_split_of_its_own(monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(train, "read_heads", lambda folder: {})
    monkeypatch.setattr(train, "train_members", lambda context, *args, **given: asked.append((*args, given)))
    monkeypatch.setattr(train, "train_one", lambda context, name, spec, kept: (name, spec, kept))
    context = SimpleNamespace(inputs={"embed": SimpleNamespace(directory=None)})
    train._train(context, SPEC, {"fold-1": "c"}, SimpleNamespace(folds=3), None)
    ((specs, kept, given),) = asked
    assert [(name, spec.fold, spec.seed, spec.keep) for name, spec in specs.items()] == [
        ("fold-0", 0, 7, "last"), ("fold-1", 1, 8, "last"), ("fold-2", 2, 9, "last")
    ]  # fmt: skip
    assert kept == {"fold-1": "c"}
    assert given == {"stage": "train"}
    assert train._train(context, SPEC, {"whole": "c"}, SimpleNamespace(folds=0), None) == [
        ("whole", SPEC, {"whole": "c"})
    ]
    train._train(context, SPEC, {}, SimpleNamespace(folds=3), 2)
    assert list(asked[-1][0]) == ["fold-1", "fold-2"]
    assert train._train(context, SPEC, {}, SimpleNamespace(folds=3), 0) == []
