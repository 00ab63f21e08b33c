"""What is known of a cluster's nodes, with Ray itself replaced: a real one is part of the integration tests."""

import json
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import ray

from components import cluster_nodes
from components.cluster_nodes import Node, ask_each_node, describe_cluster, live_nodes


def offer(name: str, *, alive: bool = True, **resources: float) -> dict:
    return {"NodeID": name, "Alive": alive, "Resources": resources}


class Nodes:
    """Stands for a Ray of nodes that answer with their names, are late, or die when they are asked."""

    exceptions = ray.exceptions

    def __init__(self, *offers: dict, late: tuple[str, ...] = (), dying: tuple[str, ...] = ()) -> None:
        self.offers, self.late, self.dying = offers, late, dying
        self.asked: dict = {}
        self.cancelled: list[str] = []

    def nodes(self) -> list[dict]:
        return list(self.offers)

    def get_runtime_context(self) -> SimpleNamespace:
        return SimpleNamespace(get_node_id=lambda: "a")

    def remote(self, **options):
        self.asked = options

        def wrap(function):
            def on(node):
                return SimpleNamespace(remote=lambda question: (node, function, question))

            return SimpleNamespace(options=lambda scheduling_strategy: on(scheduling_strategy))

        return wrap

    def wait(self, references, *, num_returns, timeout):
        assert (num_returns, timeout) == (len(references), 5)
        late = [reference for reference in references if reference[0] in self.late]
        return [reference for reference in references if reference not in late], late

    def get(self, reference):
        node, function, question = reference
        if node in self.dying:
            raise ray.exceptions.NodeDiedError(node)
        try:
            return function(f"{node}{question}")
        except ArithmeticError as error:
            raise ray.exceptions.RayTaskError("f", "in the worker", error) from error

    def cancel(self, reference) -> None:
        self.cancelled.append(reference[0])


@pytest.fixture
def install(monkeypatch):
    def replace(*offers: dict, **options) -> Nodes:
        fake = Nodes(*offers, **options)
        monkeypatch.setattr(cluster_nodes, "ray", fake)
        monkeypatch.setattr(cluster_nodes, "NodeAffinitySchedulingStrategy", lambda name, soft: name)
        return fake

    return replace


def test_the_nodes_are_those_that_live_with_what_they_offer(install) -> None:
    install(offer("b", CPU=4.0, GPU=2.0), offer("c", alive=False, CPU=8.0), offer("a", memory=1e9))
    assert live_nodes() == [Node("a", 0, 0), Node("b", 4, 2)]


def test_a_node_that_is_late_or_dies_has_no_answer_and_holds_up_no_other(install) -> None:
    fake = install(offer("a"), offer("b"), offer("c"), late=("b",), dying=("c",))
    assert ask_each_node(str.upper, "?", patience=5) == {"a": "A?", "b": None, "c": None}
    assert fake.cancelled == ["b"]
    assert fake.asked["num_cpus"] == 0


def divide(question: str) -> float:
    return 1 / 0


def test_what_is_wrong_with_the_question_is_raised(install) -> None:
    install(offer("a"))
    with pytest.raises(ray.exceptions.RayTaskError):
        ask_each_node(divide, "?", patience=5)


def test_a_cluster_is_described_as_json(install, monkeypatch) -> None:
    install(offer("a", CPU=2.0))
    monkeypatch.setattr(cluster_nodes, "ray_session", lambda **options: nullcontext())
    assert json.loads(describe_cluster("auto")) == [{"name": "a", "cpus": 2, "gpus": 0}]
