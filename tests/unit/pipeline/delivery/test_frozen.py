"""The classifier on frozen features, as the stage embed leaves it."""

import torch

from pipeline.delivery.frozen import frozen_part


def test_it_is_the_best_candidate_with_its_weights_and_views(embedded, frozen_classifier) -> None:
    part = frozen_part(embedded)
    member = part.member
    assert (member.kind, member.backbone, member.input_size) == ("frozen", "test_resnet", 24)
    assert (member.mean, member.std) == ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    assert (member.weight, member.views) == (1.0, (0,))
    expected = frozen_classifier.state_dict()
    assert part.state.keys() == expected.keys()
    assert all(torch.equal(part.state[key], value) for key, value in expected.items())
