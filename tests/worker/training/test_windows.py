"""Windows of frames."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from worker.training.windows import centred_windows, laid_end_to_end, strided_windows


@given(st.integers(9, 60), st.integers(1, 9))
def test_training_windows_are_consecutive_and_end_at_the_last_frame(frames: int, stride: int) -> None:
    """Nine consecutive frames, one window every stride, the last one moved back to end at the last frame."""
    windows = strided_windows(frames, 9, stride)
    assert (np.diff(windows, axis=1) == 1).all()
    assert windows[0, 0] == 0
    assert windows[-1, -1] == frames - 1
    assert (np.diff(windows[:-1, 0]) == stride).all()


def test_training_windows_of_the_published_stride() -> None:
    """Twenty frames at stride 4 give starts 0, 4, 8 and the moved 11."""
    assert strided_windows(20, 9, 4)[:, 0].tolist() == [0, 4, 8, 11]


def test_short_videos_repeat_their_last_frame_or_give_nothing() -> None:
    """Four to eight frames are padded by their last, three give no window."""
    assert strided_windows(4, 9, 4).tolist() == [[0, 1, 2, 3, 3, 3, 3, 3, 3]]
    assert len(strided_windows(8, 9, 4)) == 1
    assert strided_windows(3, 9, 4).shape == (0, 9)


@given(st.integers(1, 40))
def test_served_windows_have_every_frame_as_their_centre(frames: int) -> None:
    """One window a frame, its centre that frame, ends repeated."""
    windows = centred_windows(frames, 9)
    assert windows[:, 4].tolist() == list(range(frames))
    assert windows.min() == 0
    assert windows.max() == frames - 1


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6))
def test_no_window_crosses_two_clips(lengths: list[int]) -> None:
    """All frames of a window belong to the clip of its centre."""
    clip_of_frame = np.repeat(np.arange(len(lengths)), lengths)
    windows = laid_end_to_end([centred_windows(length, 9) for length in lengths], lengths)
    assert len(windows) == sum(lengths)
    clips = clip_of_frame[windows]
    assert (clips == clips[:, :1]).all()
