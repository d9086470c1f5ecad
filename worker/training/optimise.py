"""Optimiser, learning-rate schedule and weight average of a stage."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from worker.training.recipes import Stage


def build_optimiser(model: nn.Module, stage: Stage) -> torch.optim.Optimizer:
    """SGD or AdamW over the trainable weights; without `decay_biases` vectors (biases, norms) are not decayed."""
    trained = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in trained if stage.decay_biases or p.ndim > 1]
    spared = [p for p in trained if not stage.decay_biases and p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": stage.weight_decay}, {"params": spared, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if stage.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=stage.learning_rate)
    return torch.optim.SGD(groups, lr=stage.learning_rate, momentum=stage.momentum, nesterov=stage.nesterov)


def learning_rate(stage: Stage, step: int, steps_an_epoch: int) -> float:
    """The rate of optimiser step `step`, counted from 0 over all epochs."""
    if stage.schedule == "steps":
        epoch = step // steps_an_epoch
        return float(stage.learning_rate * 0.1 ** sum(epoch >= milestone for milestone in stage.milestones))
    if stage.schedule == "linear":
        total = stage.epochs * steps_an_epoch
        warm = min((step + 1) / max(stage.warmup_steps, 1), 1.0)
        fall = min((total - step) / max(total * (1 - stage.decay_from), 1), 1.0)
        return stage.learning_rate * min(warm, fall)
    return stage.learning_rate


class WeightAverage:
    """Exponential moving average of a model's weights and buffers; short-sighted at first, so that it starts quickly.

    `model` is what to measure and keep: the average, or with decay 0 the trained model itself.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False) if decay else model

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards the model's weights after optimiser step `step`, counted from 0."""
        if not self.decay:
            return
        decay = min(self.decay, (2 + step) / (11 + step))
        ours: list[Tensor] = []
        theirs: list[Tensor] = []
        for average, current in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            if average.is_floating_point():
                ours.append(average)
                theirs.append(current)
            else:
                average.copy_(current)
        torch._foreach_lerp_(ours, theirs, 1 - decay)
