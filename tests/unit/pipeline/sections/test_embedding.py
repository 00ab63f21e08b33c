"""What frozen backbones are asked: what the section takes and refuses."""

import pytest

from components.errors import InputError
from pipeline.loading import load
from pipeline.sections.embedding import EmbedConfig, backbones_in_question
from pipeline.sections.recipe import ModelConfig


def refusal(overrides: dict) -> str:
    with pytest.raises(InputError) as caught:
        load("smoke", overrides)
    return str(caught.value)


@pytest.mark.parametrize("backbones", ["[]", "[resnet18, resnet18]"])
def test_backbones_are_named_once_or_not_at_all(backbones: str) -> None:
    message = refusal({"embed.backbones": backbones})
    assert message.startswith("embed.backbones")
    assert "each once" in message


@pytest.mark.parametrize(
    ("key", "value"),
    [("keep_backbones", "0"), ("max_images", "10"), ("image_sizes", "[]"), ("image_sizes", "[16]"),
     ("image_sizes", "[48, 48]")],
)  # fmt: skip
def test_what_cannot_be_is_refused(key: str, value: str) -> None:
    assert refusal({f"embed.{key}": value}).startswith(f"embed.{key}")


def test_a_size_beyond_that_of_the_packed_images_is_refused() -> None:
    assert refusal({"embed.image_sizes": "[48, 64]"}) == (
        "embed.image_sizes: 64: must not exceed data.image_size=48, the size of the packed images; use 48 at most, or "
        "raise data.image_size"
    )
    assert load("smoke", {"embed.image_sizes": "[32, 48]"}).embed.image_sizes == (32, 48)


@pytest.mark.parametrize(
    ("backbones", "expected"),
    [(None, ("a",)), (("b", "c"), ("a", "b", "c")), (("b", "a"), ("a", "b"))],
)
def test_the_models_own_backbone_is_always_in_question(backbones, expected) -> None:
    assert backbones_in_question(EmbedConfig(backbones=backbones), ModelConfig(backbone="a")) == expected
