"""What is asked of timm before anything is built."""

import pytest

from components.errors import InputError
from components.models.catalogue import architecture, classifier_names, describe_backbone


def test_a_name_from_elsewhere_is_refused():
    with pytest.raises(InputError, match="is not one of the"):
        describe_backbone("hf-hub:someone/some-model")


def test_the_classifiers_are_those_that_timm_names():
    assert classifier_names("resnet18") == ("fc",)
    assert classifier_names("deit_tiny_distilled_patch16_224") == ("head", "head_dist")


def test_the_architecture_is_the_name_without_its_tag():
    assert architecture("resnet18.a1_in1k") == architecture("resnet18") == "resnet18"
