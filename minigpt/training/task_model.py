"""A model for a task: its examples as rows of ids, its network, its folder, its answers."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from tqdm import tqdm

from minigpt import AutoTokenizer, OpenAIGPTConfig
from minigpt.finetuning import TaskModel
from minigpt.hf import models
from minigpt.hf.loading import save_model
from minigpt.tasks import SPECIAL, TRANSFORMATIONS, Specials, collate

from .datasets import DataSet, Example, Task, find_task
from .trainer import send

CARD, SCORE = "README.md", "score"  # SCORE: the class of a model that gives a number
POOL = 50  # batches whose examples are sorted by length together
USE = """Fine-tuned with minigpt, which measures it: minigpt evaluate {} FOLDER {}
pipeline("text-classification") of minigpt and transformers runs it if an example is one row of
tokens. Two texts in no order are two rows, whose logits are added; answers are rows of an
OpenAIGPTDoubleHeadsModel. Rows: minigpt.tasks
"""


# -- examples


class Items:
    """The examples of a split as ids; they become rows when they are needed."""

    def __init__(self, task: Task, examples: Sequence[Example], tokenizer, limit: int):
        texts = list(dict.fromkeys(text for example in examples for text in example.texts))
        plain = {"add_special_tokens": False, "return_attention_mask": False}
        ids = dict(zip(texts, tokenizer(texts, **plain)["input_ids"], strict=True))
        self.parts = [[ids[text] for text in example.texts] for example in examples]
        self.labels = [example.label for example in examples]
        self.lengths = [min(sum(map(len, parts)), limit) for parts in self.parts]
        specials = Specials(*tokenizer.convert_tokens_to_ids(list(SPECIAL)))
        self.rows = partial(TRANSFORMATIONS[task.kind], s=specials, limit=limit)

    def batch(self, chosen: Sequence[int], device: torch.device) -> Iterator[Tensor]:
        """Return ids (B, K, T), ends (B, K) and, where they are known, the answers (B,)."""
        batch = [*collate([self.rows(*self.parts[i]) for i in chosen])]
        if None not in (answers := [self.labels[i] for i in chosen]):
            batch.append(torch.tensor(answers))
        return (send(x, device) for x in batch)

    def largest(self, batch_size: int) -> int:
        """Count the tokens of a batch of the longest example, padding included."""
        longest = max(range(len(self.lengths)), key=self.lengths.__getitem__)
        rows = self.rows(*self.parts[longest])
        return batch_size * len(rows) * max(map(len, rows))


def bucketed(lengths: Sequence[int], batch_size: int, seed: tuple[int, ...]) -> list[list[int]]:
    """Cut examples into batches of similar lengths, in an order that follows from the seed."""
    numbers, batches = np.random.default_rng(seed), []
    order = numbers.permutation(len(lengths)).tolist()
    for start in range(0, len(order), POOL * batch_size):
        pool = sorted(order[start : start + POOL * batch_size], key=lengths.__getitem__)
        batches += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
    return [batches[i] for i in numbers.permutation(len(batches))]


# -- the model, from a checkpoint and into one

TASK_HEADS = {  # whether the model chooses -> its public class, and the head there
    True: (models.OpenAIGPTDoubleHeadsModel, "multiple_choice_head.summary"),
    False: (models.OpenAIGPTForSequenceClassification, "score"),
}


class Network(TaskModel):
    """`TaskModel` around the public network, with its fast ways to compute."""

    def __init__(self, task: Task, transformer: models.OpenAIGPTModel):
        chooses = task.kind == "multiple_choice"
        L = 1 if chooses else len(task.labels) or 1
        super().__init__(transformer.config, L, transformer, chooses=chooses)
        self.labels, self.kind = task.labels, task.kind

    device = property(lambda self: self.score.weight.device)

    def states(self, ids: Tensor) -> Tensor:
        return self.transformer(ids, return_dict=True).last_hidden_state

    def token_loss(self, states: Tensor, labels: Tensor, faithful: bool = False) -> Tensor:
        if faithful:
            return super().token_loss(states, labels, faithful)
        return models.score_tokens(self.lm_head, states, labels)[1]

    def save(self, out: Path, name: str, tokenizer) -> None:
        """Write a folder that `from_pretrained` loads, here and in transformers."""
        (kind, head), weights, config = TASK_HEADS[self.chooses], self.state_dict(), self.config
        weights[f"{head}.weight"] = weights.pop("score.weight")
        config.pad_token_id, config.finetuning_task = tokenizer.pad_token_id, name
        config.input_transformation = self.kind
        if self.chooses:
            weights[f"{head}.bias"] = torch.zeros(1)
        else:
            config.id2label = dict(enumerate(self.labels or [SCORE]))
            config.problem_type = None if self.labels else "regression"
        with torch.device("meta"):
            empty = kind(config)
        more = {CARD: lambda path: path.write_text(USE.format(name, out.name), encoding="utf-8")}
        save_model(empty, out, state_dict=weights, more=more | tokenizer.writers())


def add_specials(tokenizer) -> None:
    """Give a tokenizer the special tokens, and let it put them around texts and pairs."""
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.unk_token
    ids = [(token, tokenizer.convert_tokens_to_ids(token)) for token in SPECIAL]
    start, delimiter, extract = SPECIAL
    forms = f"{start} $A {extract}", f"{start} $A {delimiter} $B:1 {extract}:1"
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(*forms, ids)


def open_pretrained(task: Task, model: str | Path, seed: int) -> tuple[Network, object]:
    """Load a network and its tokenizer; the head and the special tokens' rows are random."""
    add_specials(tokenizer := AutoTokenizer.from_pretrained(model))
    transformer = models.OpenAIGPTModel.from_pretrained(model, dtype=torch.float32)
    tokenizer.model_max_length = transformer.config.n_positions
    torch.manual_seed(seed)
    rows = max(len(tokenizer), transformer.config.vocab_size)
    transformer.resize_token_embeddings(rows, mean_resizing=False)  # new tokens start unalike
    return Network(task, transformer), tokenizer


def open_finetuned(
    name: str, folder: DataSet, model: str | Path, columns: Sequence[str], label: str
) -> tuple[Task, Network, object]:
    """Load what `Network.save` wrote. Raises ValueError for a model of another task."""
    config = OpenAIGPTConfig.from_pretrained(model)
    names, known = [*config.id2label.values()], getattr(config, "finetuning_task", name)
    if known != name:
        raise ValueError(f"{model} was fine-tuned for {known}, not for {name}; pass {known}")
    task = find_task(name, folder, columns, label, names)
    if (kind := getattr(config, "input_transformation", task.kind)) != task.kind:
        way = "pass its second_column" if kind == "entailment" else "leave second_column out"
        raise ValueError(f"{model} was fine-tuned for {kind}, not for {task.kind}; {way}")
    chooses = task.kind == "multiple_choice"
    kind, head = TASK_HEADS[chooses]
    right = config.architectures == [kind.__name__]
    if not (right and (chooses or names == list(task.labels or [SCORE]))):
        way = f"make one with minigpt finetune {name}"
        raise ValueError(f"{model} was not fine-tuned for {name}, or for other labels; {way}")
    public = kind.from_pretrained(model, dtype=torch.float32)
    network = Network(task, public.transformer)
    network.score.weight = public.get_submodule(head).weight
    return task, network, AutoTokenizer.from_pretrained(model)


@torch.no_grad()
def predict(task: Task, network: Network, items: Items, progress: bool, batch_size=32) -> list:
    """Return what labels are: classes, numbers of right answers, or scores.

    Raises ValueError if the model is broken: it computes no finite scores.
    """
    order, found = sorted(range(len(items.lengths)), key=items.lengths.__getitem__), []
    network.eval()
    for start in tqdm(range(0, len(order), batch_size), "dev", leave=False, disable=not progress):
        ids, ends, *_ = items.batch(order[start : start + batch_size], network.device)
        found.append(Network.forward(network, ids, ends)[0].cpu())  # float32
    scores = torch.cat(found)[torch.tensor(order).argsort()]
    if not scores.isfinite().all():
        raise ValueError("the model computes no finite scores; train it with a lower rate")
    return (scores.argmax(-1) if task.labels else scores[:, 0]).tolist()
