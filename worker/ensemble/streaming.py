"""The members' heads for streams: per-frame work is done once a frame, the rest once a window.

Two steps replace a head's forward pass.  `encode` maps new frames' features to one state a frame; `decode` maps the
states of a window to the logits of its centre.  Consecutive windows share all frames but one, so work moved from
`decode` to `encode` is done once instead of nine times.  Values that the centre does not depend on are not computed.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worker.ensemble.members import Block, FrameHead, Head, RecurrentHead, TransformerHead


class StreamHead(nn.Module):
    """A head split in two.

    encode: (N, D) features -> (N, S) states.
    decode: (M, S) states and windows (W, T) int64, rows of the states -> (W, K) logits of each window's centre.
    """

    def encode(self, features: Tensor) -> Tensor:
        raise NotImplementedError

    def decode(self, states: Tensor, windows: Tensor) -> Tensor:
        raise NotImplementedError


class WindowStream(StreamHead):
    """Any head: the state is the frame's feature, and the head runs on the whole window."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head

    def encode(self, features: Tensor) -> Tensor:
        return features

    def decode(self, states: Tensor, windows: Tensor) -> Tensor:
        return self.head(states[windows])[:, windows.shape[1] // 2]  # type: ignore[no-any-return]


class FrameStream(StreamHead):
    """Member `cnn`: the state is the frame's logits; `decode` selects the centre's."""

    def __init__(self, head: FrameHead) -> None:
        super().__init__()
        self.head = head

    def encode(self, features: Tensor) -> Tensor:
        return self.head(features)  # type: ignore[no-any-return]

    def decode(self, states: Tensor, windows: Tensor) -> Tensor:
        return states[windows[:, windows.shape[1] // 2]]


class RecurrentStream(StreamHead):
    """Member `cnn_rnn`: the state is the GRU's input projection of both directions, (N, 2 * 3H).

    The centre's output needs each direction only from its end of the window to the centre, so a window of 9 takes 5
    steps, with both directions in one batched product.
    """

    def __init__(self, head: RecurrentHead) -> None:
        super().__init__()
        gru = head.gru
        self.hidden = gru.hidden_size
        self.embed = head.embed
        self.classifier = head.classifier
        weights = dict(gru.named_parameters())
        w_in = torch.cat((weights["weight_ih_l0"], weights["weight_ih_l0_reverse"]))  # (6H, E)
        self.project = nn.Linear(w_in.shape[1], w_in.shape[0])
        with torch.no_grad():
            self.project.weight.copy_(w_in)
            self.project.bias.copy_(torch.cat((weights["bias_ih_l0"], weights["bias_ih_l0_reverse"])))
        # (2, H, 3H) and (2, 1, 3H): the recurrent weights of both directions, ready for a batched product.
        w_hidden = torch.stack((weights["weight_hh_l0"].t(), weights["weight_hh_l0_reverse"].t()))
        b_hidden = torch.stack((weights["bias_hh_l0"], weights["bias_hh_l0_reverse"])).unsqueeze(1)
        self.w_hidden = nn.Parameter(w_hidden.detach().clone(), requires_grad=False)
        self.b_hidden = nn.Parameter(b_hidden.detach().clone(), requires_grad=False)

    def encode(self, features: Tensor) -> Tensor:
        return self.project(F.relu(self.embed(features)))  # type: ignore[no-any-return]

    def decode(self, states: Tensor, windows: Tensor) -> Tensor:
        count, time = windows.shape
        both = states.view(-1, 2, 3 * self.hidden)
        hidden = states.new_zeros((2, count, self.hidden))
        for step in range(time // 2 + 1):
            inputs = torch.stack((both[windows[:, step], 0], both[windows[:, time - 1 - step], 1]))  # (2, W, 3H)
            recurrent = torch.baddbmm(self.b_hidden, hidden, self.w_hidden)  # (2, W, 3H)
            reset_i, update_i, new_i = inputs.chunk(3, dim=-1)
            reset_h, update_h, new_h = recurrent.chunk(3, dim=-1)
            update = torch.sigmoid(update_i + update_h)
            new = torch.tanh(new_i + torch.sigmoid(reset_i + reset_h) * new_h)
            hidden = torch.lerp(new, hidden, update)
        return self.classifier(F.relu(torch.cat((hidden[0], hidden[1]), dim=-1)))  # type: ignore[no-any-return]


class TransformerStream(StreamHead):
    """Member `cnn_transformer`: the state is the embedded frame and, if the position encoding is the same at every time
    (the published rule), also the first block's query, key and value.

    The last block computes only the centre's row.
    """

    def __init__(self, head: TransformerHead, window: int) -> None:
        super().__init__()
        self.head = head
        self.size = head.embed.out_features
        self.register_buffer("offsets", head.positions(window).detach().clone())  # (T, E)
        self.once_a_frame = head.position_axis == "batch"

    offsets: Tensor

    def encode(self, features: Tensor) -> Tensor:
        embedded = self.head.embed(features)
        if not self.once_a_frame:
            return embedded  # type: ignore[no-any-return]
        embedded = embedded + self.offsets[0]
        block = _block(self.head, 0)
        return torch.cat((embedded, block.attn.qkv(block.norm1(embedded))), dim=-1)  # (N, 4E)

    def decode(self, states: Tensor, windows: Tensor) -> Tensor:
        gathered = states[windows]  # (W, T, S)
        last = len(self.head.blocks) - 1
        x = gathered[..., : self.size] if self.once_a_frame else gathered + self.offsets
        for index in range(last + 1):
            block = _block(self.head, index)
            given = gathered[..., self.size :] if index == 0 and self.once_a_frame else None
            x = _centre_block(block, x, given) if index == last else _whole_block(block, x, given)
        return self.head.classifier(self.head.norm(x))  # type: ignore[no-any-return]


def _block(head: TransformerHead, index: int) -> Block:
    block = head.blocks[index]
    if not isinstance(block, Block):
        raise TypeError(f"block {index} is a {type(block).__name__}")
    return block


def _heads(x: Tensor, heads: int) -> Tensor:
    """(W, T, E) -> (W, heads, T, E / heads)."""
    batch, time, size = x.shape
    return x.reshape(batch, time, heads, size // heads).transpose(1, 2)


def _whole_block(block: Block, x: Tensor, qkv: Tensor | None) -> Tensor:
    """x (W, T, E), its precomputed query, key and value (W, T, 3E) or None -> (W, T, E)."""
    attention = block.attn
    qkv = attention.qkv(block.norm1(x)) if qkv is None else qkv
    query, key, value = (_heads(part, attention.heads) for part in qkv.chunk(3, dim=-1))
    y = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    return block.feed_forward(x + attention.proj(y))


def _centre_block(block: Block, x: Tensor, qkv: Tensor | None) -> Tensor:
    """x (W, T, E) -> the block's output at the centre alone, (W, E)."""
    attention, centre, size = block.attn, x.shape[1] // 2, x.shape[2]
    if qkv is None:
        normed = block.norm1(x)
        weight, bias = attention.qkv.weight, attention.qkv.bias
        query = F.linear(normed[:, centre : centre + 1], weight[:size], bias[:size])  # (W, 1, E)
        key, value = F.linear(normed, weight[size:], bias[size:]).chunk(2, dim=-1)
    else:
        query, key, value = qkv.chunk(3, dim=-1)
        query = query[:, centre : centre + 1]
    heads = attention.heads
    y = F.scaled_dot_product_attention(_heads(query, heads), _heads(key, heads), _heads(value, heads))
    return block.feed_forward(x[:, centre] + attention.proj(y.transpose(1, 2).flatten(1)))


def stream_head(head: Head, window: int) -> StreamHead:
    """The streaming form of a member's head; the fallback repeats work between windows."""
    if isinstance(head, FrameHead):
        return FrameStream(head)
    if isinstance(head, RecurrentHead):
        return RecurrentStream(head)
    if isinstance(head, TransformerHead):
        return TransformerStream(head, window)
    return WindowStream(head)
