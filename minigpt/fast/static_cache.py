"""A cache that stays where it is, and a step that the GPU repeats without being told."""

import importlib.util
import math
import sys
import threading
import warnings
from collections.abc import Sequence
from functools import cache
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from minigpt.block import Block
from minigpt.config import GPTConfig
from minigpt.generation import sample
from minigpt.model import GPT, NoCache


class StaticLayer:
    """The keys and values of one layer, (B, H, S, D), written in place."""

    def __init__(self, cache: "StaticCache", shape: tuple, **kind):
        self.cache = cache
        self.keys, self.values = torch.zeros(shape, **kind), torch.zeros(shape, **kind)

    def update(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write the (B, H, T, D) of T new tokens; return all (B, H, S, D), which `mask` covers."""
        T = k.shape[-2]
        if len(self.cache) == 0:  # a prompt attends to itself alone
            self.keys[:, :, :T], self.values[:, :, :T] = k, v
            return k, v
        slots = self.cache.slots(T)
        self.keys.index_copy_(2, slots, k.to(self.keys.dtype))
        self.values.index_copy_(2, slots, v.to(self.values.dtype))
        return self.keys, self.values


class StaticCache(NoCache):
    """Keys and values of B texts of up to S tokens, allocated once: a cache for `GPT.forward`.

    Where it is, is told by tensors, so that a recorded step finds other values at each replay.
    """

    def __init__(self, config: GPTConfig, B: int, S: int, dtype=torch.float32, device=None):
        shape = B, config.n_head, S, config.n_embd // config.n_head
        kind = {"dtype": dtype, "device": device}
        self.layers = [StaticLayer(self, shape, **kind) for _ in range(config.n_layer)]
        self.slot = torch.zeros(B, dtype=torch.int32, device=device)  # index of the next token
        self.start = torch.zeros(B, dtype=torch.int32, device=device)  # where each text begins
        self.length, self.is_padded = 0, False

    def __len__(self) -> int:
        return self.length

    def reset(self, padding: Tensor | None = None) -> None:
        """Forget all texts; the next ones have `padding` (B,) tokens in front that are none."""
        self.length, self.is_padded = 0, padding is not None
        self.slot.zero_()
        self.start.copy_(torch.zeros_like(self.start) if padding is None else padding)

    def slots(self, T: int) -> Tensor:
        """Return the indices of the next T tokens, (T,)."""
        return self.slot[0] + torch.arange(T, device=self.slot.device)

    def positions(self, T: int, device=None) -> Tensor:
        """Return the positions of the next T tokens, (B, T): each text counts from its start."""
        return (self.slots(T) - self.start[:, None]).clamp(min=0)

    def mask(self, T: int, padding: Tensor | None = None) -> Tensor | None:
        """Return the mask of the next T tokens, (B, 1, T, S), or (.., T) for prompts.

        `padding` is (B, S'), 1 for a real token, for the tokens so far and the next T.
        """
        if self.length == 0 and padding is None and not self.is_padded:
            return None  # causality is all
        S = self.layers[0].keys.shape[2] if self.length else T
        index = torch.arange(S, device=self.slot.device)
        real = index >= self.start[:, None]  # (B, S)
        if padding is not None:
            real = real & F.pad(padding.bool(), (0, S - padding.shape[1]))
        causal = index <= self.slots(T)[:, None]  # (T, S)
        return causal & real[:, None, None]

    def advance(self, T: int) -> None:
        self.slot += T
        self.length += T


def is_stock(module: nn.Module, cls: type) -> bool:
    """Say whether a module is exactly a `cls`, and computes what `cls` does: no hooks, nothing new."""
    names = "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"
    changed = any(getattr(module, name) for name in names) or "forward" in vars(module)
    plain = all(type(weight) is nn.Parameter for weight in module.parameters(recurse=False))
    return type(module) is cls and plain and not changed and not _has_any_global_hook()


@cache
def parts_of_block() -> list[type]:
    """List the classes of a `Block` and all its modules."""
    with torch.device("meta"):
        return [type(module) for module in Block(GPTConfig(n_embd=1, n_head=1)).modules()]


def is_stock_model(model: nn.Module) -> bool:
    """Say whether a language model is ours in every part, so that a faster step does the same."""
    body, head, known = model.transformer, model.lm_head, parts_of_block()
    ours = all(type(one).__module__.startswith("minigpt.") for one in (model, body))
    parts = [model, body, body.tokens_embed, body.positions_embed, body.drop, body.h, head]
    kinds = [type(model), type(body), nn.Embedding, nn.Embedding, nn.Dropout, nn.ModuleList, nn.Linear]
    for block in body.h:
        parts += (modules := list(block.modules()))
        kinds += known if len(modules) == len(known) else [None] * len(modules)
    stock = all(map(is_stock, parts, kinds)) and getattr(head, "bias", None) is None
    common = model.config.attn_implementation in ("eager", "sdpa", "flash_attention_2")
    return ours and stock and common and not any(part.training for part in parts)


def to_compute(x: Tensor) -> Tensor:
    """Return x in a dtype that its device multiplies well: float32 on a CPU, else as it is."""
    return x.float() if x.device.type == "cpu" else x


def multiply(x: Tensor, weight: Tensor) -> Tensor:
    """Return x @ weight, (B, K) and (K, N) -> (B, N), as up to 8 split-K partials side by side."""
    (B, K), N = x.shape, weight.shape[1]
    n = math.gcd(K, 8)
    rows = to_compute(x).view(B, n, K // n).transpose(0, 1)  # (B, K) -> (n, B, K / n)
    partials = torch.bmm(rows, to_compute(weight).view(n, K // n, N))  # (n, B, N)
    return partials.sum(0).to(x.dtype)


def multiply_table(x: Tensor, table: Tensor) -> Tensor:
    """Return x @ table.T, (B, C) and (V, C) -> (B, V), in up to 8 parts side by side."""

    def some(tokens: Tensor) -> Tensor:
        V, C = tokens.shape
        n = math.gcd(V, 8)
        columns = to_compute(tokens).view(n, V // n, C).mT  # (V, C) -> (n, C, V / n)
        out = torch.bmm(to_compute(x).expand(n, -1, -1), columns)  # (n, B, V / n)
        return out.transpose(0, 1).flatten(1)  # (B, V)

    return torch.cat([some(tokens) for tokens in table.split(4096)], -1).to(x.dtype)


def attend_in_place(qkv: Tensor, layer: StaticLayer, n: int, mask: Tensor | None) -> Tensor:
    """Write the token at index n into a layer's cache and attend from it: (B, 3 C) -> (B, C)."""
    B, H, _, D = layer.keys.shape
    q, k, v = qkv.view(B, 3, H, 1, D).unbind(1)  # (B, 3 C) -> three (B, H, 1, D)
    layer.keys[:, :, n : n + 1], layer.values[:, :, n : n + 1] = k, v
    seen = layer.keys[:, :, : n + 1], layer.values[:, :, : n + 1]  # (B, H, n + 1, D)
    return F.scaled_dot_product_attention(q, *seen, attn_mask=mask).reshape(B, -1)  # -> (B, C)


def split_step(body: GPT, cache: StaticCache, tokens: Tensor) -> Tensor:
    """Run the next token of each text, (B,), through the network, in split products: -> (B, C)."""

    def through(layer, x: Tensor) -> Tensor:
        return multiply(x, layer.weight) + layer.bias

    n = len(cache)
    x = body.tokens_embed.weight[tokens] + body.positions_embed.weight[cache.positions(1)[:, 0]]
    mask = cache.mask(1)[..., : n + 1] if cache.is_padded else None  # (B, 1, 1, n + 1)
    for block, layer in zip(body.h, cache.layers, strict=True):
        attn, mlp = block.attn, block.mlp
        a = attend_in_place(through(attn.c_attn, x), layer, n, mask)
        x = block.ln_1(x + through(attn.c_proj, a))
        x = block.ln_2(x + through(mlp.c_proj, mlp.act(through(mlp.c_fc, x))))
    cache.advance(1)
    return x


def kernel_step(body: GPT, cache: StaticCache, texts: Tensor) -> Tensor:
    """Do the same with Triton kernels, for the token at index `cache.slot` of `texts` (B, S).

    It does not advance the cache.
    """
    from minigpt.fast import kernels

    B, where, weight = len(texts), (cache.slot, cache.start), body.tokens_embed.weight
    dtype = torch.float32 if B == 1 else weight.dtype
    x = kernels.embed_newest(texts, weight, body.positions_embed.weight, *where, dtype)
    layers = [(layer.keys, layer.values) for layer in cache.layers]
    if B == 1:
        state = x, None, None
        for block, layer in zip(body.h, layers, strict=True):
            state = kernels.block_of_one(block, state, *layer, *where)
        return kernels.finish(state, weight.dtype)
    for block, layer in zip(body.h, layers, strict=True):
        x = kernels.block_of_many(block, x, *layer, *where)
    return x


PLAIN = (
    "the static cache runs without its fast step: {}. The texts are the same; the model's own "
    "forward pass computes each token"
)
CHECK = 32  # steps between two looks at the GPU
LOCKS = WeakKeyDictionary()  # model -> the lock that lets one thread at a time use its memory


def lock_of(model: nn.Module):
    """Return the lock of a model; the thread that has it may take it again."""
    return LOCKS.setdefault(model, threading.RLock())


def warn_caller(message: str) -> None:
    """Warn, pointing at the line outside minigpt that called."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").startswith("minigpt."):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)


class FastGenerator:
    """Continues B texts with a cache that stays in place; on a GPU, each step is a recorded graph.

    `model` has a method `next_logits(ids, cache)`, as `OpenAIGPTLMHeadModel` has; where it is not
    ours in every part, its own forward pass computes each token. `processors` are functions of the
    logits for sampling, such as temperature (called with None for the ids); `end` lists the tokens
    that end a text, `pad` follows them. Memory is allocated here. Threads take turns.
    """

    def __init__(
        self,
        model: nn.Module,
        batch_size: int = 1,
        length: int | None = None,  # S, the longest text; default: all positions of the model
        do_sample: bool = False,
        processors: Sequence = (),
        end: Sequence[int] = (),
        pad: int | None = None,  # default: the first end token
    ):
        self.model, self.do_sample, self.processors = model, do_sample, processors
        self.pad, weight = next(iter(end), 0) if pad is None else pad, next(model.parameters())
        device, shape = weight.device, (batch_size, length or model.config.n_positions)
        with lock_of(model), torch.inference_mode(False), torch.no_grad():
            self.cache = StaticCache(model.config, *shape, weight.dtype, device)
            self.texts = torch.zeros(shape, dtype=torch.long, device=device)
            self.ended = torch.zeros(batch_size, dtype=torch.bool, device=device)
            self.broken = torch.full_like(self.cache.slot, -1)  # index of nan
            self.end = torch.tensor(end, device=device) if end else None
            known = model.config.afn in ("gelu", "gelu_new") and importlib.util.find_spec("triton")
            self.graph = None
            if device.type == "cuda" and known and is_stock_model(model):
                table = model.lm_head.weight
                self.table = F.pad(table, (0, 0, 0, -len(table) % 64))  # (W, C): whole tiles
                self.graph = self.record()

    def record(self) -> torch.cuda.CUDAGraph:
        """Run the kernels a few times, so that all is built and allocated, and record one step."""
        from minigpt.fast import kernels

        V, aside, body = self.model.lm_head.out_features, torch.cuda.Stream(), self.model.transformer
        state = self.texts, self.cache.slot, self.ended, self.broken

        def step() -> None:
            logits = F.linear(kernel_step(body, self.cache, self.texts), self.table)  # (B, W)
            if self.do_sample:
                self.cache.advance(1)
                self.append(logits[:, :V])
            else:  # advances, too
                kernels.choose_best(logits, *state, self.end, self.pad, V)

        aside.wait_stream(torch.cuda.current_stream())  # begin when all before is done
        with torch.cuda.stream(aside):
            for _ in range(3):
                self.cache.reset()  # a trial advances by one: back to the first index
                step()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        return graph

    def append(self, logits: Tensor) -> None:
        """Put a token behind each text, the most probable or a draw: logits (B, V).

        It changes tensors alone, so it can be recorded. Nobody waits for the GPU.
        """
        if self.do_sample:
            logits = logits.float()
            for process in self.processors:
                logits = process(None, logits)
        best, new = logits.max(-1)  # each (B,)
        is_bad = ~best.isfinite() & (self.broken < 0)
        self.broken.copy_(torch.where(is_bad, self.cache.slot - 1, self.broken))
        if self.do_sample:  # what is broken has been noted
            new = sample(logits.nan_to_num(nan=0.0, posinf=0.0))[:, 0]
        if self.end is not None:
            new = new.masked_fill(self.ended, self.pad)
            self.ended |= torch.isin(new, self.end)
        self.texts.index_copy_(1, self.cache.slot[:1].long(), new[:, None])

    def split(self) -> None:
        """Add a token to each text, on a CPU, with split products."""
        hidden = split_step(self.model.transformer, self.cache, self.texts[:, len(self.cache)])
        self.append(multiply_table(hidden, self.model.lm_head.weight))  # (B, C) -> (B, V)

    def plain(self) -> None:
        """Add a token to each text with the model's own forward pass."""
        newest = self.texts[:, len(self.cache), None]  # (B, 1)
        self.append(self.model.next_logits(newest, self.cache)[0])

    def fastest(self):
        """Return the function for one step; warn if it is the plain one."""
        if not is_stock_model(self.model):
            reason = "some module is not as minigpt made it, has a hook or is in training mode"
        elif self.graph:
            return self.graph.replay
        elif self.texts.device.type == "cpu":
            return self.split
        else:
            reason = "its kernels need a GPU, Triton and GELU"
        warn_caller(PLAIN.format(reason))
        return self.plain

    def all_ended(self, T: int) -> bool:
        """Say whether all texts, with prompts of T tokens, have met their end.

        Raises ValueError, naming step and row, where the largest score was not finite.
        """
        broken = [(index, row) for row, index in enumerate(self.broken.tolist()) if index >= 0]
        if broken:
            index, row = min(broken)
            raise ValueError(
                f"step {index + 1 - T}, row {row}: the largest score is not finite, so nothing can "
                "be chosen; look for nan or inf in the weights, or a temperature too close to 0"
            )
        return bool(self.ended.all())

    def __reduce__(self):  # a graph cannot be copied: a copy of the model gets None here
        return type(None), ()

    def __call__(self, ids: Tensor, max_new_tokens: int, padding: Tensor | None = None) -> Tensor:
        """Continue prompts (B, T), with `padding` (B,) tokens in front: -> (B, T + n).

        Raises ValueError for prompts that do not fit, and where logits are not finite.
        """
        (B, S), T, n = self.texts.shape, ids.shape[-1], max_new_tokens
        if len(ids) != B or min(T, n) < 1 or T + n > S:
            raise ValueError(
                f"prompts {tuple(ids.shape)} and max_new_tokens={n} do not fit; this generator "
                f"holds {B} texts of up to {S} tokens"
            )
        with lock_of(self.model), torch.no_grad():
            if self.graph:  # the model may have been trained since
                self.table[: self.model.lm_head.out_features] = self.model.lm_head.weight
            step = self.fastest()
            self.cache.reset(padding)
            self.ended.zero_()
            self.broken.fill_(-1)
            self.texts[:, :T] = ids
            self.append(self.model.next_logits(ids, self.cache)[0])
            for new in range(n - 1):
                if self.end is not None and new % CHECK == 0 and self.all_ended(T):
                    break
                step()
            if self.all_ended(T):
                n = length_needed(self.texts[:, T : T + n], self.end)
            return self.texts[:, : T + n].clone()


def length_needed(new: Tensor, end: Tensor) -> int:
    """Say how many of the new tokens (B, n) there are until the last text has met its end."""
    first = (new[..., None] == end).any(-1).int().argmax(-1)  # (B, n, E) -> (B,)
    return int(first.max()) + 1


def generate_static(
    model: nn.Module, ids: Tensor, max_new_tokens: int, padding: Tensor | None, key, **choice
) -> Tensor:
    """Return the new ids (B, n) after prompts (B, T), from a generator that the model keeps.

    It is made anew where the number of texts, the weights or the `choice` (arguments of
    `FastGenerator`) are others; `key` tells one list of processors from another.
    """
    weights = [(weight.data_ptr(), weight.dtype) for weight in model.parameters()]
    key = [len(ids), key, choice["do_sample"], choice["end"], choice["pad"], weights]
    key.append(is_stock_model(model))
    with lock_of(model):
        kept = vars(model).get("static_generator")  # None in a copy of a model
        if kept is None or kept.key != key:
            vars(model).pop("static_generator", None)  # free its memory first
            kept = vars(model)["static_generator"] = FastGenerator(model, len(ids), **choice)
            kept.key = key
        return kept(ids, max_new_tokens, padding)[:, ids.shape[-1] :]
