"""Two embeddings and a stack of blocks: token ids go in, one vector for each position comes out."""

import torch
from torch import Tensor, nn

from minigpt.attention import make_mask
from minigpt.block import Block
from minigpt.config import GPTConfig


class NoCache:
    """What a forward pass without a cache uses: it starts at position 0 and keeps nothing.

    A cache tells the model which positions come next, and to which ones they may attend.
    """

    def __init__(self, n_layer: int):
        self.layers = [None] * n_layer

    def __len__(self) -> int:
        return 0  # positions so far

    def positions(self, T: int, device: torch.device | None = None) -> Tensor:
        """Return the positions of the next T tokens, (T,)."""
        return torch.arange(len(self), len(self) + T, device=device)

    def mask(self, T: int, padding: Tensor | None = None) -> Tensor | None:
        """Return the mask of the next T tokens, (B, 1, T, S); None means causal.

        `padding` is (B, S): 1 for a real token, 0 for padding, those in the cache first.
        """
        return None if padding is None else make_mask(T, len(self) + T, padding)

    def advance(self, T: int) -> None:
        """Take note that T tokens have passed all layers."""


class LayerCache:
    """The keys and values that one layer has computed so far, each (B, H, S, D)."""

    def __init__(self):
        self.keys = self.values = None

    def update(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append (B, H, T, D) new keys and values; return all of them, (B, H, S, D)."""
        if self.keys is not None:
            keys = torch.cat([self.keys, keys], dim=-2)
            values = torch.cat([self.values, values], dim=-2)
        self.keys, self.values = keys, values
        return keys, values


class KeyValueCache(NoCache):
    """One `LayerCache` for each layer. `len(cache)` is the number of positions it holds."""

    def __init__(self, n_layer: int):
        self.layers = [LayerCache() for _ in range(n_layer)]

    def __len__(self) -> int:
        keys = self.layers[0].keys
        return 0 if keys is None else keys.shape[-2]

    def reorder(self, rows: Tensor) -> None:
        """Put the keys and values of text `rows[i]` in the place of those of text i."""
        for layer in self.layers:
            layer.keys = layer.keys.index_select(0, rows)
            layer.values = layer.values.index_select(0, rows)

    def crop(self, max_length: int) -> None:
        """Keep the first `max_length` positions and forget the others."""
        for layer in self.layers:
            if layer.keys is not None:
                layer.keys = layer.keys[..., :max_length, :]
                layer.values = layer.values[..., :max_length, :]


def ignore(x: Tensor, weights: Tensor | None = None) -> None:
    """Let hidden states and attention weights pass unseen: the default of `watch`."""


class GPT(nn.Module):
    """GPT-1 up to its last block: token ids (B, T) in, hidden states (B, T, C) out.

    Source: Radford et al. 2018, section 3.1; `model` of OpenAI's train.py.
    """

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = config
        self.tokens_embed = nn.Embedding(config.vocab_size, config.n_embd)
        self.positions_embed = nn.Embedding(config.n_positions, config.n_embd)
        self.drop = nn.Dropout(config.embd_pdrop)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        for embedding in (self.tokens_embed, self.positions_embed):
            nn.init.normal_(embedding.weight, std=config.initializer_range)

    def forward(
        self, x, positions=None, mask=None, cache=None, watch=ignore, need_weights=False
    ) -> Tensor:
        """Run the network on ids (B, T) or on vectors (B, T, C); return (B, T, C).

        `positions`, (T,) or (B, T), and `mask`, (B, 1, T, S), come from the cache unless they are
        given. `watch(x)` sees the embedding, `watch(x, weights)` the result of each block, with
        the attention weights (B, H, T, S) if `need_weights`.
        """
        x = x if x.is_floating_point() else self.tokens_embed(x)  # (B, T) -> (B, T, C)
        T, cache = x.shape[1], NoCache(len(self.h)) if cache is None else cache
        positions = cache.positions(T, x.device) if positions is None else positions
        mask = cache.mask(T) if mask is None else mask
        x = self.drop(x + self.positions_embed(positions))
        watch(x)
        for block, layer in zip(self.h, cache.layers, strict=True):
            x, weights = self.run(block, x, mask, layer, need_weights)
            watch(x, weights)
        cache.advance(T)
        return x

    def run(self, block: Block, *inputs):
        """Call a block; a subclass may do so in another way, to save memory in training."""
        return block(*inputs)
