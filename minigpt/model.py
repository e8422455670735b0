from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor, nn

from minigpt.attention import make_mask
from minigpt.block import Block
from minigpt.checkpoint import OpenAIGPTConfig, bare_name, read_weights, write_checkpoint


@dataclass
class ModelOutput:
    """Named results that also index and unpack like a tuple; fields that are None are left out there."""

    def to_tuple(self) -> tuple:
        return tuple(value for field in fields(self) if (value := getattr(self, field.name)) is not None)

    def __getitem__(self, key):
        return getattr(self, key) if isinstance(key, str) else self.to_tuple()[key]

    def __iter__(self):
        return iter(self.to_tuple())


@dataclass
class BaseModelOutput(ModelOutput):
    """What `OpenAIGPTModel` returns."""

    last_hidden_state: Tensor | None = None  # (B, T, C)
    past_key_values: "KeyValueCache | None" = None  # with use_cache
    hidden_states: tuple[Tensor, ...] | None = None  # n_layer + 1 of (B, T, C), the embedding first
    attentions: tuple[Tensor, ...] | None = None  # n_layer of (B, H, T, S)


class LayerCache:
    """The keys and values that one layer has computed so far, each (B, H, S, D)."""

    def __init__(self):
        self.keys = self.values = None

    def update(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append (B, H, T, D) new keys and values; return all of them."""
        if self.keys is not None:
            keys = torch.cat([self.keys, keys], dim=-2)
            values = torch.cat([self.values, values], dim=-2)
        self.keys, self.values = keys, values
        return keys, values


class KeyValueCache:
    """One `LayerCache` for each layer. `len(cache)` is the number of positions it holds."""

    def __init__(self, n_layer: int):
        self.layers = [LayerCache() for _ in range(n_layer)]

    def __len__(self) -> int:
        keys = self.layers[0].keys
        return 0 if keys is None else keys.shape[-2]


class OpenAIGPTPreTrainedModel(nn.Module):
    """What all GPT-1 models share: a config, new weights from N(0, 0.02), reading and writing checkpoints."""

    def __init__(self, config: OpenAIGPTConfig):
        super().__init__()
        self.config = config

    @classmethod
    def from_pretrained(cls, checkpoint, dtype=torch.float32, device=None, **overrides):
        """Load `"tiny"`, a folder (transformers' or OpenAI's release) or a name on the hub, ready to use (eval mode).

        `overrides` are fields of the config, such as `n_head=4` or `attn_implementation="eager"`.
        """
        model = cls(OpenAIGPTConfig.from_pretrained(checkpoint, **overrides))
        load_weights(model, read_weights(checkpoint))
        return model.to(device=device, dtype=dtype).eval()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `config.json` and `model.safetensors` into `folder`, in a form that transformers loads too."""
        write_checkpoint(folder, self.config, dict(self.named_parameters()), type(self).__name__)

    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())


def load_weights(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Copy `weights` (bare names) into the parameters of `model`.

    Raises ValueError naming the parameter if one is missing or has another shape than the model built from the config.
    """
    own = {bare_name(name): parameter for name, parameter in model.named_parameters()}
    if missing := own.keys() - weights.keys():
        raise ValueError(f"the checkpoint lacks {len(missing)} of {len(own)} parameters, {min(missing)} among them")
    for name, parameter in own.items():
        if parameter.shape != weights[name].shape:
            found, expected = tuple(weights[name].shape), tuple(parameter.shape)
            raise ValueError(f"{name} has shape {found} in the checkpoint, its config makes it {expected}")
        parameter.data.copy_(weights[name])


class OpenAIGPTModel(OpenAIGPTPreTrainedModel):
    """GPT-1 without a head: token ids (B, T) in, hidden states (B, T, C) out."""

    def __init__(self, config: OpenAIGPTConfig):
        super().__init__(config)
        self.tokens_embed = nn.Embedding(config.vocab_size, config.n_embd)
        self.positions_embed = nn.Embedding(config.n_positions, config.n_embd)
        for table in (self.tokens_embed, self.positions_embed):
            nn.init.normal_(table.weight, std=config.initializer_range)
        self.drop = nn.Dropout(config.embd_pdrop)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))

    def forward(
        self,
        input_ids: Tensor,  # (B, T)
        attention_mask: Tensor | None = None,  # (B, S): 1 for a real token, 0 for padding; S counts the cached ones too
        token_type_ids: Tensor | None = None,  # (B, T): further rows of the token table to add
        position_ids: Tensor | None = None,  # (B or 1, T); default: count from the end of the cache
        past_key_values: KeyValueCache | None = None,  # continue from here
        use_cache: bool = False,  # return the cache, to continue from later
        output_attentions: bool = False,
        output_hidden_states: bool = False,
    ) -> BaseModelOutput:
        """Raises ValueError if the text is longer than `config.n_positions`. Source: `model` of OpenAI's train.py."""
        cache = past_key_values if past_key_values is not None else (KeyValueCache(self.config.n_layer) if use_cache else None)
        past, T = len(cache) if cache is not None else 0, input_ids.shape[-1]
        self.check_length(past + T)
        if position_ids is None:
            position_ids = torch.arange(past, past + T, device=input_ids.device)
        x = self.tokens_embed(input_ids) + self.positions_embed(position_ids)  # (B, T, C)
        if token_type_ids is not None:
            x = x + self.tokens_embed(token_type_ids)
        x = self.drop(x)
        mask = make_mask(T, past + T, attention_mask, x.device)
        hidden_states, attentions = [x], []
        for layer, block in enumerate(self.h):
            x, weights = block(x, mask, cache.layers[layer] if cache is not None else None, output_attentions)
            hidden_states.append(x)
            attentions.append(weights)
        return BaseModelOutput(
            last_hidden_state=x,
            past_key_values=cache,
            hidden_states=tuple(hidden_states) if output_hidden_states else None,
            attentions=tuple(attentions) if output_attentions else None,
        )

    def check_length(self, length: int) -> None:
        if length > self.config.n_positions:
            raise ValueError(
                f"{length} tokens, but this checkpoint has {self.config.n_positions} positions; shorten the text"
            )
