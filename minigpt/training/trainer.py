"""A model in training, the same for one process and for several: updates, losses, samples."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from minigpt import OpenAIGPTLMHeadModel
from minigpt.pretraining import make_optimizer, update, window_starts, windows

from .dropout import ShortDropout
from .processes import Processes, synchronise_gradients
from .shards import Shards


def send(x: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device, without waiting for a GPU."""
    x = x.pin_memory() if device.type == "cuda" else x
    return x.to(device, non_blocking=True)


class Trainer:
    """A model in training; each method is for all processes together."""

    def __init__(self, config, recipe, processes: Processes, fsdp: bool):
        self.recipe, self.processes, self.device = recipe, processes, processes.device
        self.config, self.length = config, config.n_positions  # T
        torch.set_float32_matmul_precision("high")
        torch.manual_seed(recipe.seed)
        with torch.device("meta"):
            self.empty = OpenAIGPTLMHeadModel(config)  # tells how a model is saved
        self.plain = OpenAIGPTLMHeadModel(config).to(self.device)
        if recipe.compile or recipe.compile is None and self.device.type == "cuda":
            for part in self.plain.transformer.h if fsdp else [self.plain]:
                part.forward = torch.compile(part.forward)  # hooks stay outside
        elif self.device.type == "cpu":
            self.plain.forward = ShortDropout()(self.plain.forward)
        self.model = processes.wrap(self.plain, fsdp)
        self.optimizer = make_optimizer(self.model, recipe.weight_decay)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=recipe.dtype == "float16")

    def loss(self, batch: Tensor, labels: Tensor) -> Tensor:
        dtype = getattr(torch, self.recipe.dtype)
        with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
            return self.model(batch, labels=labels).loss

    def cut(self, ids: Shards, starts: Tensor) -> Tensor:
        """Cut windows that begin at `starts`, (B,), and send them to the device: (B, T)."""
        return send(windows(ids, starts, self.length), self.device)

    def step(self, ids: Shards, step: int) -> tuple[Tensor, Tensor]:
        """Make one update; return the loss of this process's share and the gradient's length.

        All random numbers follow from seed, step and process.
        """
        rank, world = self.processes.rank, self.processes.world
        numbers = np.random.SeedSequence((self.recipe.seed, step, rank))
        torch.manual_seed(int(numbers.generate_state(1, np.uint64)[0]))
        starts = window_starts(len(ids), self.length, self.recipe, step)
        parts = self.cut(ids, starts[rank::world]).chunk(self.recipe.accumulate)
        total = torch.zeros((), device=self.device)
        for part in parts:
            synchronise_gradients(self.model, part is parts[-1])
            loss = self.loss(part, part) / len(parts)
            self.scaler.scale(loss).backward()
            total += loss.detach()
        self.scaler.unscale_(self.optimizer)
        take_step = lambda: self.scaler.step(self.optimizer)  # noqa: E731
        length = update(self.model, self.optimizer, self.recipe, step, take_step)
        self.scaler.update()
        return total, getattr(length, "full_tensor", lambda: length)()

    @torch.no_grad()
    def measure(self, ids: Shards, starts: Tensor) -> float:
        """Return the mean loss of windows, nats per token, without dropout.

        All batches have one shape, so that one compilation does: rows too many do not count.
        """
        rank, world = self.processes.rank, self.processes.world
        size = self.recipe.batch_size // (world * self.recipe.accumulate)
        total, rows = torch.zeros((), device=self.device), torch.arange(size, device=self.device)
        self.model.eval()
        for group in starts.split(size * world):
            mine = group[rank::world]
            batch = self.cut(ids, F.pad(mine, (0, size - len(mine))))
            labels = batch.masked_fill(rows[:, None] >= len(mine), -100)
            loss = self.loss(batch, labels)
            total += loss * len(mine) if len(mine) else 0
        self.model.train()
        return self.processes.total(total).item() / len(starts)

    def work(self) -> int:
        """Count the floating-point operations of training with a token, 6 N + 12 L C T."""
        N, L, C = self.plain.num_parameters(), self.config.n_layer, self.config.n_embd
        return 6 * N + 12 * L * C * self.length

    def sample(self, ids: Shards) -> Tensor:
        """Continue the beginning of a text: (T,)."""
        prompt = windows(ids, torch.zeros(1, dtype=torch.long), min(16, self.length // 2))
        torch.manual_seed(self.recipe.seed)
        self.model.eval()
        with torch.compiler.set_stance("force_eager"):  # every length would be compiled
            settings = {"max_length": min(64, self.length), "do_sample": True, "top_k": 40}
            found = self.plain.generate(prompt.to(self.device), **settings)
        self.model.train()
        return found[0]
