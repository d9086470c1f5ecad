"""The trainer: resuming, stopping, several processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from model_store.members import TransformerHeadSpec
from worker.ensemble.members import FrameHead, TransformerHead
from worker.training.checkpoint import load_checkpoint, save_checkpoint
from worker.training.errors import CheckpointError, DeviceTooSmallError, Interrupted, TrainingError
from worker.training.journal import Journal
from worker.training.loop import METRIC, Outcome, Run, Trainer
from worker.training.optimise import learning_rate
from worker.training.place import Place, find_place
from worker.training.recipes import Settings, Stage, recipe
from worker.training.temporal import TemporalTask, WindowSet, new_head, set_to_mean

CPU = Place(torch.device("cpu"))
MINIATURE = ("heads.embedding=8", "heads.hidden=4", "heads.attention_heads=2", "heads.depth=1")


def settings_of(*overrides: str) -> Settings:
    """A tiny default recipe without half precision."""
    own = ("half_precision=false", "temporal.epochs=3", "temporal.batch=8", "temporal.warmup_steps=2")
    return recipe("default", (*MINIATURE, *own, *overrides))


def window_set(clips: int, seed: int) -> WindowSet:
    """Random features whose first dimensions tell the label; a window a clip."""
    rng = torch.Generator().manual_seed(seed)
    truth = torch.randint(0, 7, (clips,), generator=rng).repeat_interleave(9)
    features = torch.randn((len(truth), 12), generator=rng)
    features[torch.arange(len(truth)), truth] += 2
    windows = torch.arange(len(truth)).view(clips, 9)
    return WindowSet(features.half(), windows, nn.functional.one_hot(truth, 7).float(), truth)


def trainer(folder: Path, settings: Settings, *, resume: bool = False, place: Place = CPU) -> Trainer:  # type: ignore[type-arg]
    """A GRU head's training."""
    head = new_head(settings.heads.specs()["cnn_rnn"], 12, 7, seed=1)
    task = TemporalTask(
        head, window_set(44, 1), {"validation": window_set(20, 2)}, torch.full((7,), 1 / 7), settings, place
    )
    run = Run(folder, place, Journal(None, shown=False), settings.seed, settings.half_precision, "same", resume)
    return Trainer("temporal-cnn_rnn", task, settings.temporal, run)


def assert_equal(a: Outcome, b: Outcome) -> None:
    """Equal to the bit."""
    assert (a.epoch, a.metrics) == (b.epoch, b.metrics)
    assert a.state.keys() == b.state.keys()
    for key, value in a.state.items():
        assert torch.equal(value, b.state[key]), key


@pytest.mark.parametrize("stop_at", [1, 4, 6, 13])
def test_a_stopped_training_continues_to_the_same_weights(tmp_path: Path, stop_at: int) -> None:
    """Stopped within or between epochs, resumed: the same bits as an undisturbed run."""
    settings = settings_of("temporal.rebalance=0.3")
    undisturbed = trainer(tmp_path / "a", settings).run()
    stopped = trainer(tmp_path / "b", settings)
    steps = 0
    original = stopped._train_step

    def step(wrapped: nn.Module, batch: object) -> Tensor:
        nonlocal steps
        steps += 1
        if steps == stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        return original(wrapped, batch)

    stopped._train_step = step  # type: ignore[method-assign]
    with pytest.raises(Interrupted, match="continue with --resume"):
        stopped.run()
    assert steps == stop_at
    assert_equal(trainer(tmp_path / "b", settings, resume=True).run(), undisturbed)


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    """Resuming after the last epoch returns the best weights without a step."""
    settings = settings_of()
    first = trainer(tmp_path, settings).run()
    again = trainer(tmp_path, settings, resume=True)
    again._train_step = None  # type: ignore[method-assign,assignment]
    assert_equal(again.run(), first)


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    """The message says to name another folder."""
    settings = settings_of()
    trainer(tmp_path, settings).run()
    other = trainer(tmp_path, settings, resume=True)
    other.run_ = replace(other.run_, signature="other")
    with pytest.raises(CheckpointError, match="other settings"):
        other.run()


def test_a_kill_while_writing_leaves_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is moved into place only when it is whole."""
    path = tmp_path / "a.pt"
    save_checkpoint(path, {"epoch": 1})

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, {"epoch": 2})
    assert load_checkpoint(path) == {"epoch": 1}


def test_a_checkpoint_that_needs_code_is_refused(tmp_path: Path) -> None:
    """Only tensors and plain values are loaded."""
    path = tmp_path / "a.pt"
    torch.save({"run": Path("x")}, path)
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        load_checkpoint(path)


def test_best_epoch_is_kept_and_patience_ends_the_training(tmp_path: Path) -> None:
    """With patience 2 and metrics 0.5, 0.7, 0.6, 0.6 the second epoch is kept and the fifth never runs."""
    settings = settings_of("temporal.epochs=9", "temporal.patience=2")
    current = trainer(tmp_path, settings)
    metrics: Iterator[float] = iter([0.5, 0.7, 0.6, 0.6])
    states = []

    def validate(model: nn.Module) -> dict[str, float]:
        states.append({key: value.clone() for key, value in model.state_dict().items()})
        return {METRIC: next(metrics)}

    current.task.validate = validate  # type: ignore[method-assign]
    outcome = current.run()
    assert outcome.epoch == 2
    assert len(states) == 4
    assert all(torch.equal(value, states[1][key]) for key, value in outcome.state.items())


def test_the_last_epoch_is_kept_where_the_stage_says_so(tmp_path: Path) -> None:
    """However much better an earlier one was; resumed, it is still the one."""
    settings = settings_of("temporal.epochs=3", "temporal.keep=last")
    current = trainer(tmp_path, settings)
    metrics: Iterator[float] = iter([0.5, 0.7, 0.6])
    current.task.validate = lambda model: {METRIC: next(metrics)}  # type: ignore[method-assign]
    outcome = current.run()
    assert (outcome.epoch, outcome.metrics) == (3, {METRIC: 0.6})
    average = current.average.model.state_dict()
    assert all(torch.equal(value, average[key]) for key, value in outcome.state.items())
    assert_equal(outcome, trainer(tmp_path, settings, resume=True).run())


def test_running_out_of_memory_says_which_setting_to_lower(tmp_path: Path) -> None:
    """The message names temporal.batch and its value."""
    current = trainer(tmp_path, settings_of())

    def step(*_: object) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    current._train_step = step  # type: ignore[method-assign,assignment]
    with pytest.raises(DeviceTooSmallError, match=r"lower temporal.batch \(now 8\)"):
        current.run()


def test_learning_rate_schedules() -> None:
    """`steps` divides by ten after its epochs; `linear` rises, holds and falls to nearly nothing."""
    steps = Stage(learning_rate=1.0, schedule="steps", milestones=(2, 4, 8), epochs=10)
    assert [learning_rate(steps, 5 * epoch, 5) for epoch in (0, 1, 2, 4, 8)] == pytest.approx([1, 1, 0.1, 0.01, 0.001])
    linear = Stage(learning_rate=1.0, schedule="linear", warmup_steps=10, decay_from=0.5, epochs=10)
    assert [learning_rate(linear, step, 10) for step in (0, 9, 49, 75, 99)] == pytest.approx([0.1, 1, 1, 0.5, 0.02])


def test_a_missing_cuda_device_is_an_error() -> None:
    """Never a silent CPU."""
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(TrainingError, match="finds no CUDA device"):
        find_place("cuda")


TWO_PROCESSES = """
import sys, torch
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_loop
from worker.training.place import find_place, leave
torch.set_num_threads(1)
place = find_place("cpu")
assert place.world == 2
test_loop.trainer(Path(sys.argv[1]), test_loop.settings_of(), place=place).run()
leave(place)
"""


def test_two_processes_train_to_the_weights_of_one(tmp_path: Path) -> None:
    """Two gloo processes with half a batch each end where one process with the whole batch does."""
    single = trainer(tmp_path / "one", settings_of()).run()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = TWO_PROCESSES.format(tests=str(Path(__file__).parent))
    shared = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "two")],
            env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank), "PYTHONPATH": str(Path.cwd())},
        )
        for rank in range(2)
    ]
    try:
        assert [process.wait(timeout=120) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    double = load_checkpoint(tmp_path / "two" / "temporal-cnn_rnn.best.pt")
    assert double["epoch"] == single.epoch
    for key, value in single.state.items():
        torch.testing.assert_close(double["model"][key], value, rtol=1e-4, atol=1e-6)


def test_a_temporal_member_learns_and_the_weights_that_are_kept_are_the_measured_ones(tmp_path: Path) -> None:
    """Labels that the features tell are learned; the outcome's weights give the outcome's metrics."""
    current = trainer(tmp_path, settings_of("temporal.epochs=40", "temporal.learning_rate=0.01"))
    outcome = current.run()
    assert outcome.metrics["validation_accuracy"] > 0.7
    current.model.load_state_dict(outcome.state)
    assert current.task.validate(current.model) == outcome.metrics


def test_a_transformer_is_set_to_the_mean_of_the_static_logits() -> None:
    """On windows it was not fitted to; without, an untrained one has nothing of them."""
    rng = torch.Generator().manual_seed(4)
    static = FrameHead(24, 7)
    with torch.no_grad():
        static.classifier.weight.copy_(torch.randn(7, 24, generator=rng) / 3)
    features = torch.rand(400, 24, generator=rng)
    windows = features[200:].unsqueeze(1) + 0.1 * torch.randn(200, 9, 24, generator=rng)  # one face moves a little
    wanted = static(windows).mean(dim=1)
    head = new_head(TransformerHeadSpec(embedding=64, heads=4, depth=2, mlp_ratio=2.0, position_axis="time"), 24, 7, 3)
    assert isinstance(head, TransformerHead)
    before = head(windows)[:, 4]
    set_to_mean(head, static, features[:200], 9)
    after = head(windows)[:, 4]
    assert (after - wanted).abs().mean() < 0.3 * (wanted - wanted.mean(dim=0)).abs().mean()
    assert (before - wanted).abs().mean() > (wanted - wanted.mean(dim=0)).abs().mean()
    with pytest.raises(TrainingError, match=r"heads\.embedding must be 14 at least"):
        set_to_mean(TransformerHead(24, 7, 8, 2, 1, 2.0, "time"), static, features, 9)
