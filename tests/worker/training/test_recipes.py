"""Recipes and their overrides."""

from __future__ import annotations

import pytest

from worker.training.errors import RecipeError
from worker.training.recipes import published, recipe


def test_published_recipe_is_the_published_table() -> None:
    """Every number of the published code's recipe."""
    settings = published()
    assert settings.window == 9
    for stage, rate in ((settings.static, 5e-4), (settings.temporal, 1e-3)):
        assert (stage.optimiser, stage.momentum, stage.weight_decay) == ("sgd", 0.9, 5e-4)
        assert (stage.batch, stage.epochs, stage.learning_rate) == (96, 10, rate)
        assert (stage.schedule, stage.rebalance, stage.mixup, stage.nesterov) == ("constant", 0.0, 0.0, False)
    assert (settings.train_stride, settings.temporal_outputs, settings.context) == (4, "all", "labelled")
    assert (settings.heads.embedding, settings.heads.hidden, settings.heads.attention_heads) == (768, 384, 12)
    assert (settings.heads.depth, settings.heads.mlp_ratio) == (2, 4.0)
    assert (settings.input.size, settings.input.colour, settings.crop_scale) == (224, "rgb", 0.2)
    assert settings.input.mean == (0.5071, 0.4867, 0.4408)
    assert settings.input.std == (0.2675, 0.2565, 0.2761)
    assert settings.fit_fusion is False


def test_settings_are_overridden_by_their_path() -> None:
    """Numbers, tuples, words and truth values take the type of the setting."""
    overrides = ("static.epochs=3", "static.milestones=2,4", "temporal.schedule=steps", "fit_fusion=false")
    settings = recipe("default", overrides)
    assert settings.static.epochs == 3
    assert settings.static.milestones == (2, 4)
    assert settings.temporal.schedule == "steps"
    assert settings.fit_fusion is False


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("static.epoch=3", "'epoch' is not one of"),
        ("static.epochs=many", "static.epochs='many'"),
        ("static.schedule=cosine", "must be one of constant, steps, linear"),
        ("static=3", "group of settings"),
        ("seed.x=3", "is a value"),
        ("window", "path=value"),
        ("window=8", "must be odd"),
        ("input.colour=rgb", "3 value"),
        ("backbone.side=100", "backbone.side must be a multiple of 16"),
        ("heads.embedding=30", "multiple of heads.attention_heads"),
        ("fusion_weights=0.5,0.5", "fusion_weights must be one above 0 for each member"),
        ("fusion_weights=0,0.5,0.5", "fusion_weights must be one above 0 for each member"),
    ],
)
def test_a_wrong_override_is_one_clear_line(override: str, words: str) -> None:
    """The message names the setting and what is wrong."""
    with pytest.raises(RecipeError, match=words) as caught:
        recipe("default", [override])
    assert "\n" not in str(caught.value)


def test_an_unknown_recipe_names_the_known_ones() -> None:
    """The message lists them."""
    with pytest.raises(RecipeError, match="published, default, compact"):
        recipe("best")
