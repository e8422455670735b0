import math
from collections import Counter
from collections.abc import Iterator
from functools import partial
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from minigpt.bpe import NEWLINE, Pair, build_vocabulary, drop_rare_letters, learn_merges, order_letters
from minigpt.checkpoint import OpenAIGPTConfig
from minigpt.lm_head import OpenAIGPTLMHeadModel
from minigpt.tokenizer import OpenAIGPTTokenizer, original_pipeline


def count_file(path: Path) -> Counter:
    """Count the words of one book, as the original text pipeline splits them."""
    return Counter(original_pipeline()(path.read_text(encoding="utf-8")))


def encode_file(tokenizer: OpenAIGPTTokenizer, path: Path) -> np.ndarray:
    """Encode one book, a line break at its end: (tokens,) of uint16."""
    return np.array([*tokenizer.encode(path.read_text(encoding="utf-8")), tokenizer.vocab[NEWLINE]], dtype=np.uint16)


def for_each_book(function, folder: str | Path, workers: int = 1, progress: bool = False) -> Iterator:
    """Apply `function` to the path of every .txt file below `folder`, in `workers` processes; results in order."""
    paths = sorted(Path(folder).rglob("*.txt"))
    if not paths:
        raise FileNotFoundError(f"no .txt file below {folder}; pass a folder of books, one text file each")
    bar = partial(tqdm, total=len(paths), desc=f"read {folder}", unit="book", disable=not progress)
    if workers == 1:
        yield from bar(map(function, paths))
    else:
        with Pool(workers) as pool:
            yield from bar(pool.imap(function, paths))


def learn_vocabulary(word_counts: Counter, vocab_size: int, min_letter_count: int = 100) -> OpenAIGPTTokenizer:
    """Learn a vocabulary of at most `vocab_size` pieces; letters rarer than `min_letter_count` become `<unk>`."""
    words = drop_rare_letters(word_counts, min_letter_count)
    letters = order_letters(words)
    num_merges = vocab_size - 2 * len(letters) - 2  # each letter twice, and the two special pieces
    if num_merges < 0:
        raise ValueError(f"vocab_size={vocab_size} has no room for {len(letters)} letters; pass at least {2 * len(letters) + 2}")
    merges = learn_merges(words, num_merges)
    return OpenAIGPTTokenizer(build_vocabulary(letters, merges), merges, "original")


def windows(ids: Tensor, batch_size: int, length: int, generator: torch.Generator) -> Tensor:
    """Cut `batch_size` windows at random places out of one long text: (N,) -> (B, T)."""
    starts = torch.randint(len(ids) - length + 1, (batch_size, 1), generator=generator, device=ids.device)
    return ids[starts + torch.arange(length, device=ids.device)].long()  # (B, 1) + (T,) -> (B, T)


def learning_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Rise linearly over `warmup` steps, then fall to zero along a cosine. Source: paper, section 4.1."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def make_optimizer(model: nn.Module, weight_decay: float = 0.01) -> torch.optim.AdamW:
    """Adam with decoupled weight decay on matrices, none on biases and gains. Source: paper, section 4.1."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, fused=parameters[0].is_cuda)


def train(
    model: OpenAIGPTLMHeadModel,
    ids: Tensor,  # (N,) one long text
    steps: int,
    batch_size: int = 64,  # windows a step, each of the model's full length
    peak: float = 2.5e-4,  # highest learning rate
    warmup: int = 2000,  # steps until then
    seed: int = 0,
    progress: bool = False,
) -> list[float]:
    """Train `model` where it is (bfloat16 and compiled on a GPU); return the loss of every step, in nats per token."""
    device = next(model.parameters()).device
    on_gpu = device.type == "cuda"
    optimizer, generator = make_optimizer(model), torch.Generator(device).manual_seed(seed)
    forward, ids, losses = torch.compile(model) if on_gpu else model, ids.to(device), []
    model.train()
    for step in (bar := tqdm(range(steps), desc="train", unit="step", disable=not progress)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, peak, warmup)
        batch = windows(ids, batch_size, model.config.n_positions, generator)  # (B, T)
        with torch.autocast(device.type, torch.bfloat16, enabled=on_gpu):
            loss = forward(batch, labels=batch).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
        if step % 100 == 99:
            bar.set_postfix(loss=f"{torch.stack(losses[-100:]).mean():.3f}")
    model.eval()
    return torch.stack(losses).tolist()


@torch.inference_mode()
def perplexity(model: OpenAIGPTLMHeadModel, ids: Tensor, batch_size: int = 16) -> float:
    """exp(mean loss per token) over a text (N,), cut into windows of the model's full length; a rest is left out."""
    length, device = model.config.n_positions, next(model.parameters()).device
    rows = ids[: len(ids) // length * length].view(-1, length)
    losses = [model(batch, labels=batch).loss * len(batch) for batch in rows.to(device).long().split(batch_size)]
    return math.exp(sum(losses).item() / len(rows))


def prepare(
    books: Path, held_out: Path, out: Path, vocab_size: int = 8192, workers: int = 1, progress: bool = False
) -> tuple[Tensor, Tensor]:
    """Turn two folders of books into a vocabulary and two long texts, (N,) uint16 each: to train with, held out.

    All is kept in `out` (`vocab.json`, `merges.txt`, `train.npy`, `val.npy`); what is there already is not made again.
    """
    if not (out / "merges.txt").is_file():
        counts = sum(for_each_book(count_file, books, workers, progress), Counter())
        learn_vocabulary(counts, vocab_size).save_pretrained(out)
    tokenizer = OpenAIGPTTokenizer.from_pretrained(out, "original")
    for name, folder in (("train", books), ("val", held_out)):
        if not (out / f"{name}.npy").is_file():
            parts = list(for_each_book(partial(encode_file, tokenizer), folder, workers, progress))
            np.save(out / "unfinished.npy", np.concatenate(parts))
            (out / "unfinished.npy").rename(out / f"{name}.npy")  # a killed run leaves nothing that looks whole
    return torch.from_numpy(np.load(out / "train.npy")), torch.from_numpy(np.load(out / "val.npy"))


def pretrain(
    books: Path,  # folder of .txt files, one book each
    held_out: Path,  # the same, to measure with
    out: Path,  # folder for the checkpoint and everything on the way
    config: OpenAIGPTConfig,
    steps: int,
    batch_size: int = 64,
    peak: float = 2.5e-4,
    warmup: int = 2000,
    workers: int = 1,
    progress: bool = True,
) -> float:
    """Books in, checkpoint out (float16): returns the perplexity on the held-out books."""
    train_ids, val_ids = prepare(books, held_out, out, config.vocab_size, workers, progress)
    torch.manual_seed(0)
    model = OpenAIGPTLMHeadModel(config).to("cuda" if torch.cuda.is_available() else "cpu")
    train(model, train_ids.int(), steps, batch_size, peak, warmup, progress=progress)
    model.half().save_pretrained(out)
    return perplexity(OpenAIGPTLMHeadModel.from_pretrained(out), val_ids.int())
