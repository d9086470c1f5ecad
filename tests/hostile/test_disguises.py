"""Playlists, scripts, patterns and texts disguised as videos: no other file is read, and no host is contacted."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from worker.decode import DecodeLimits, Sampling, UndecodableInputError
from worker.decode.isolated import IsolatedSource
from worker.decode.messages import Input

if TYPE_CHECKING:
    from tests.hostile.conftest import Canary, HostileApi
    from tests.listener import Listener
    from tests.service import Clips

pytestmark = pytest.mark.e2e

LIMITS = DecodeLimits(1000, 10_000_000, 20)


def playlists(target: str) -> dict[str, bytes]:
    """Texts that make FFmpeg or other programs open the target."""
    return {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{target}\n#EXT-X-ENDLIST\n".encode(),
        "hls-master": f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{target}\n".encode(),
        "hls-key": f'#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{target}"\n#EXTINF:1,\n{target}\n'.encode(),
        "ffconcat": f"ffconcat version 1.0\nfile '{target}'\n".encode(),
        "dash": f'<?xml version="1.0"?><MPD><Period><BaseURL>{target}</BaseURL></Period></MPD>'.encode(),
        "sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
        "svg": f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{target}"/></svg>'.encode(),
        "xml-entity": f'<!DOCTYPE x [<!ENTITY e SYSTEM "file://{target}">]><x>&e;</x>'.encode(),
        "text": b"Dear labeller,\n\nthis is a letter.\n" * 40,
    }


KINDS = sorted(playlists(""))


@pytest.mark.parametrize("name", ["film.mp4", "film.avi", "list.m3u8"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_text_is_no_video(hostile: HostileApi, canary: Canary, listener: Listener, kind: str, name: str) -> None:
    """A text is refused at once under any name; its references are neither read nor contacted."""
    for target in (str(canary.path), canary.path.name, f"http://127.0.0.1:{listener.port}/a.ts"):
        hostile.refused(hostile.upload(playlists(target)[kind], name), 415, "unsupported_media")
    assert not canary.was_touched()
    assert not listener.connections


@pytest.mark.parametrize("kind", KINDS)
def test_the_decoder_follows_no_text(
    canary: Canary, listener: Listener, clips: Clips, tmp_path: Path, kind: str
) -> None:
    """Were one let in, the decoder would not open what it points at either: by absolute, by relative path, or URL."""
    segment = tmp_path / "segment.ts"
    segment.write_bytes(clips.video(clips.pictures(3, (176, 144)), container="mpegts"))
    targets = [str(canary.path), canary.path.name, str(segment), segment.name]
    targets += [f"{scheme}://127.0.0.1:{listener.port}/a.ts" for scheme in ("http", "tcp", "rtmp", "rtsp")]
    for target in targets:
        for name in ("input", "list.m3u8", "film.mp4"):
            path = tmp_path / name
            path.write_bytes(playlists(target)[kind])
            with pytest.raises(UndecodableInputError):
                IsolatedSource(Input(str(path), "mp4", 25, Sampling()), LIMITS)
    assert not canary.was_touched()
    assert not listener.connections


def test_a_text_behind_a_video_s_first_bytes(hostile: HostileApi, canary: Canary, listener: Listener) -> None:
    """First bytes that the front end takes for a video do not make a playlist behind them one for the decoder."""
    heads = (b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2", b"\x1a\x45\xdf\xa3", b"GIF89a", b"RIFF\0\0\0\0AVI ")
    for head, kind in zip(heads, ("hls", "ffconcat", "hls", "ffconcat"), strict=True):
        for target in (str(canary.path), f"http://127.0.0.1:{listener.port}/a.ts"):
            content = head + b"\n" + playlists(target)[kind] + bytes(200)
            # As a GIF's head, a text claims a picture of some size.
            hostile.fails(content, "undecodable_input", *(["limit_exceeded"] if head == b"GIF89a" else []))
    text = playlists(str(canary.path))["hls"].ljust(257, b"\n") + b"ustar" + bytes(400)
    hostile.fails(text, "undecodable_input")
    assert not canary.was_touched()
    assert not listener.connections


def test_a_video_whose_data_are_said_to_be_elsewhere(hostile: HostileApi, canary: Canary, clips: Clips) -> None:
    """QuickTime's references to other files are not followed, by relative or by absolute path."""
    video = clips.video(clips.pictures(3))
    for levels in (1, -1):
        hostile.fails(with_reference(video, canary.path, levels), "undecodable_input")
    assert not canary.was_touched()


def with_reference(video: bytes, target: Path, levels: int) -> bytes:
    """The video with an alias to another file where its `dref` says "this file".

    levels: folders that both have in common; -1: the path is absolute.
    """
    own = b"\0\0\0\x0curl \0\0\0\x01"
    start = video.index(own)
    path = bytes(target)
    volume = b"\x04root".ljust(28, b"\0")
    name = bytes([len(target.name)]) + target.name.encode()
    record = (
        bytes(10)
        + volume
        + bytes(12)
        + name.ljust(64, b"\0")
        + bytes(16)
        + struct.pack(">hh", levels, levels)
        + bytes(16)
    )
    record += struct.pack(">HH", 2, len(path)) + path + b"\0" * (len(path) % 2) + struct.pack(">hH", -1, 0)
    alias = struct.pack(">I", 12 + len(record)) + b"alis\0\0\0\0" + record
    longer = len(alias) - len(own)
    changed = bytearray(video[:start] + alias + video[start + len(own) :])
    for box in (b"dref", b"dinf", b"minf", b"mdia", b"trak", b"moov"):  # whose sizes count what they hold
        at = changed.index(box) - 4
        changed[at : at + 4] = (int.from_bytes(changed[at : at + 4], "big") + longer).to_bytes(4, "big")
    return bytes(changed)


def test_a_pattern_is_a_name_like_any_other(hostile: HostileApi, clips: Clips) -> None:
    """A still image named like a sequence is one image: the files that the pattern would match are not looked for."""
    for name in ("frame_%02d.png", "*.png", "frame_[0-9].png"):
        job, frames = hostile.label(clips.png(0), name)
        assert (job["input"]["frame_count"], len(frames)) == (1, 1)


def test_the_decoder_reads_no_sequence(clips: Clips, tmp_path: Path) -> None:
    """Nor does the decoder expand a pattern, were a stored input ever named like one."""
    for i in range(3):
        (tmp_path / f"frame_{i:02d}.png").write_bytes(clips.png(i))
    for pattern in ("frame_%02d.png", "frame_*.png"):
        with pytest.raises(UndecodableInputError):
            IsolatedSource(Input(str(tmp_path / pattern), "mp4", 25, Sampling()), LIMITS)


@pytest.mark.parametrize("content", [b"", b"\0", b"G", b"\xff"], ids=["empty", "zero", "letter", "byte"])
def test_files_of_no_and_of_one_byte(hostile: HostileApi, content: bytes) -> None:
    """Nothing, and next to nothing, is refused as a file, as a frame and as the body."""
    hostile.refused(hostile.upload(content), 415, "unsupported_media")
    hostile.refused(
        hostile.http.post("/v1/jobs", files=[("frames", ("a.jpg", content)), ("frames", ("b.jpg", content))]),
        415,
        "unsupported_media",
    )
    raw = hostile.http.post("/v1/jobs", content=content, headers={"Content-Type": "video/mp4"})
    hostile.refused(raw, 415, "unsupported_media")
