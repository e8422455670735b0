"""Texts in, answers out: `pipeline(task, model)`. A task is a function, listed in `TASKS`."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from minigpt.double_heads import state_at
from minigpt.fast import warn_caller
from minigpt.hf import models
from minigpt.hf.configuration import OpenAIGPTConfig
from minigpt.hf.files import split_hub_options
from minigpt.hf.generation_config import GenerationConfig, settings_of
from minigpt.hf.loading import find_device
from minigpt.hf.tokenization import OpenAIGPTTokenizerFast


@dataclass
class Pipeline:
    """A function from texts to answers; `pipeline` makes one.

    Right padding needs no mask: a causal model never attends to later positions. So a batch has
    only ids, and a task must not read the vector of a padding position.
    """

    task: str  # a key of TASKS
    model: models.OpenAIGPTPreTrainedModel
    tokenizer: object
    batch_size: int  # rows that are computed at once
    options: dict  # of the task, for every call

    device = property(lambda self: self.model.device)
    dtype = property(lambda self: self.model.dtype)
    limit = property(  # the most tokens that a text may have
        lambda self: min(self.model.config.n_positions, self.tokenizer.model_max_length)
    )

    def __call__(
        self, inputs: Any, candidate_labels=None, *, batch_size: int | None = None, **options: Any
    ) -> Any:
        """Return an answer to one text, a list for a list, a generator for any other iterable.

        `options` replace the pipeline's; `candidate_labels` are for zero-shot classification.
        Errors: those of the tokenizer and the model, TypeError and ValueError, also for an unknown
        option.
        """
        if candidate_labels is not None:
            options["candidate_labels"] = candidate_labels
        if not isinstance(inputs, Iterable) and hasattr(inputs, "__getitem__"):  # torch's Dataset
            inputs = map(inputs.__getitem__, range(len(inputs)))
        is_one = isinstance(inputs, str | bytes | dict) or not isinstance(inputs, Iterable)
        texts, work = iter([inputs] if is_one else inputs), TASKS[self.task][1]
        size, settings = batch_size or self.batch_size, self.options | options
        batches = iter(lambda: list(islice(texts, size)), [])
        answers = (answer for some in batches for answer in work(self, some, size, **settings))
        if not is_one:
            return list(answers) if isinstance(inputs, list | tuple) else answers
        # as in transformers: one text gets a list with its class, unless top_k is passed
        is_class = work is classify and isinstance(inputs, str) and "top_k" not in options
        return list(answers) if is_class else next(answers)

    def save_pretrained(self, save_directory: str | Path, **options) -> None:
        """Write model and tokenizer into a folder; options: those of the model."""
        self.model.save_pretrained(save_directory, **options)
        self.tokenizer.save_pretrained(save_directory)

    def encode(
        self, text: str | dict, truncation=False, max_length=None, padding=None, **options
    ) -> list[int]:
        """Return the ids of a text, or of {"text", "text_pair"}; options: the tokenizer's.

        Raises ValueError for a text without tokens, and TypeError if it is not a text.
        """
        texts = text if isinstance(text, dict) else {"text": text}
        how = {"truncation": truncation or False, "max_length": max_length or self.limit} | options
        if not (ids := self.tokenizer(**texts, **how)["input_ids"]):
            raise ValueError(f"{text!r} is empty: it has no tokens; pass at least one word")
        return ids

    def pad(self, rows: list[list[int]]) -> Tensor:
        """Pad rows on the right with zeros: (B, T) on the model's device."""
        return pad_sequence([torch.tensor(row) for row in rows], batch_first=True).to(self.device)

    @torch.no_grad()
    def states(self, rows: list[list[int]]) -> Tensor:
        """Return the last hidden states of rows of ids, (B, T, C)."""
        return self.model.base_model(self.pad(rows), return_dict=True).last_hidden_state

    @torch.no_grad()
    def logits(self, rows: list[list[int]], size: int) -> Tensor:
        """Return the logits of each row, (N, L), from the vector of its last token."""
        found = []
        for start in range(0, len(rows), size):
            some = rows[start : start + size]
            ends = torch.tensor([len(row) - 1 for row in some], device=self.device)  # (B,)
            found.append(self.model.score(state_at(self.states(some), ends)).float().cpu())
        return torch.cat(found)


# -- the tasks: each answers a list of texts, `size` rows of ids at once


def extract_features(
    pipe, texts, size, return_tensors=False, truncation=False, tokenize_kwargs=None
) -> list:
    """Text -> the vectors of its tokens, (1, T, C), in lists or as a tensor."""
    rows = [pipe.encode(x, **{"truncation": truncation} | (tokenize_kwargs or {})) for x in texts]
    both = zip(pipe.states(rows).cpu(), rows, strict=True)
    found = [states[None, : len(row)] for states, row in both]  # (T, C) -> (1, T, C)
    return found if return_tensors else [states.tolist() for states in found]


FUNCTIONS = dict(softmax=partial(torch.softmax, dim=-1), sigmoid=torch.sigmoid, none=torch.clone)


def classify(pipe, texts, size, top_k=False, function_to_apply=None, **options) -> list:
    """Text, or {"text", "text_pair"} -> {"label", "score"}, the best; or a list of them, sorted.

    `top_k`: the number of classes in the list, None for all. `function_to_apply`: from logits to
    scores, one of `FUNCTIONS`; the default follows transformers. `options`: the tokenizer's.
    """
    config, name = pipe.model.config, function_to_apply
    if name is None and config.problem_type != "regression":
        several = config.problem_type == "multi_label_classification"
        name = "sigmoid" if several or config.num_labels == 1 else "softmax"
    rows = [pipe.encode(text, **options) for text in texts]
    answers = []
    for scores in FUNCTIONS[str(name).lower()](pipe.logits(rows, size)).tolist():
        pairs = [{"label": config.id2label[i], "score": x} for i, x in enumerate(scores)]
        pairs.sort(key=lambda pair: -pair["score"])
        answers.append(pairs[0] if top_k is False else pairs[:top_k])
    return answers


def classify_zero_shot(
    pipe,
    texts,
    size,
    candidate_labels=(),  # a list, or a string with commas between the labels
    hypothesis_template="This example is {}.",
    multi_label=False,  # True: each label alone; False: the probabilities sum to 1
    truncation="only_first",  # cut the text, never the hypothesis
) -> list[dict]:
    """Text and K labels -> {"sequence", "labels", "scores"}, the most probable label first.

    Warns if no class of the model is called entailment; then the last one is used.
    """
    labels, names = candidate_labels, pipe.model.config.id2label
    if isinstance(labels, str):
        labels = [label.strip() for label in labels.split(",") if label.strip()]
    if not (labels and all(texts)):
        raise ValueError(f"{candidate_labels=} or a text in {texts!r:.60} is empty; pass both")
    hypotheses = [hypothesis_template.format(label) for label in labels]
    if hypothesis_template in hypotheses:
        raise ValueError(f"{hypothesis_template=}; put {{}} where the label goes")
    found = [i for i, name in names.items() if name.lower().startswith("entail")]
    if not found:
        known = f"no class is called 'entailment' among {[*names.values()]}"
        warn_caller(f"{known}, so the last one is used; load a model trained on inference")
    entailment = found[0] if found else len(names) - 1
    pairs = [{"text": text, "text_pair": other} for text in texts for other in hypotheses]
    logits, answers = pipe.logits([pipe.encode(pair, truncation) for pair in pairs], size), []
    for text, own in zip(texts, logits.split(len(labels)), strict=True):  # (K labels, L classes)
        if multi_label or len(labels) == 1:
            contradiction = 0 if entailment else -1  # by position, as in transformers
            scores = own[:, [contradiction, entailment]].softmax(-1)[:, 1]  # (K,)
        else:
            scores = own[:, entailment].softmax(-1)
        order = scores.argsort(stable=True).flip(0)  # ties: the later one first, as there
        ranked = {"labels": [labels[i] for i in order], "scores": scores[order].tolist()}
        answers.append({"sequence": text, **ranked})
    return answers


GENERATION = {"max_new_tokens": 256, "do_sample": True, "temperature": 0.7}  # as in transformers


def generate_texts(
    pipe,
    texts,
    size,
    return_full_text=True,  # False: only the new text
    return_tensors=False,  # True: the ids, in place of a text
    return_text=None,  # no effect
    clean_up_tokenization_spaces=None,  # this and the next: see `decode`
    skip_special_tokens=True,
    prefix="",  # a text in front of each prompt that is not returned
    handle_long_generation=None,  # "hole": forget the beginning of a prompt that leaves no room
    stop_sequence=None,  # another name of stop_strings
    truncation=False,
    tokenizer_encode_kwargs=None,
    generation_config=None,
    **options,  # those of `generate`
) -> list[list[dict]]:
    """Prompt -> [{"generated_text"}] or [{"generated_token_ids"}]; `GENERATION` are the defaults.

    Words have no space in front: the text of the new tokens follows the prompt as in transformers.
    """
    how = {"truncation": truncation, "max_length": options.get("max_length")}
    how |= {x: options.pop(x) for x in ("add_special_tokens", "padding") if x in options}
    how |= tokenizer_encode_kwargs or {}
    rows = [pipe.encode(prefix + text if prefix else text, **how) for text in texts]
    config = settings_of(pipe.model.generation_config) | settings_of(generation_config)
    usual = GENERATION | {"pad_token_id": pipe.tokenizer.unk_token_id}  # decoding skips it
    if (config | options).get("max_length"):
        del usual["max_new_tokens"]
    config = usual | config
    if handle_long_generation == "hole":
        room = pipe.limit - (config | options)["max_new_tokens"]
        rows = [row[-room:] for row in rows]
    options |= {"tokenizer": pipe.tokenizer, "return_dict_in_generate": False}
    options |= {"stop_strings": stop_sequence} if stop_sequence else {}
    ids, mask = pipe.pad(rows), pipe.pad([[1] * len(row) for row in rows])  # (B, T)
    new = pipe.model.generate(ids, GenerationConfig(**config), attention_mask=mask, **options)
    added = new[:, ids.shape[1] :].cpu().chunk(len(texts))  # (B * N, T + n) -> B of (N, n)
    if return_tensors:
        both = zip(rows, added, strict=True)
        return [[{"generated_token_ids": row + new.tolist()} for new in some] for row, some in both]
    decode = partial(pipe.tokenizer.decode, skip_special_tokens=skip_special_tokens)
    decode = partial(decode, clean_up_tokenization_spaces=clean_up_tokenization_spaces)
    starts = texts if return_full_text is not False else [""] * len(texts)
    both = zip(starts, added, strict=True)
    return [[{"generated_text": start + decode(new)} for new in some] for start, some in both]


TASKS = {  # task -> class that loads its model, function
    "text-generation": (models.OpenAIGPTLMHeadModel, generate_texts),
    "text-classification": (models.OpenAIGPTForSequenceClassification, classify),
    "sentiment-analysis": (models.OpenAIGPTForSequenceClassification, classify),
    "feature-extraction": (models.OpenAIGPTModel, extract_features),
    "zero-shot-classification": (models.OpenAIGPTForSequenceClassification, classify_zero_shot),
}


def pipeline(
    task: str | None = None,
    model: str | Path | models.OpenAIGPTPreTrainedModel | None = None,
    config: str | Path | OpenAIGPTConfig | None = None,
    tokenizer=None,
    *,
    dtype: torch.dtype | str | None = None,
    device: int | str | torch.device | None = None,
    batch_size: int = 1,
    model_kwargs: dict | None = None,
    **options,
) -> Pipeline:
    """Make a function from texts to answers: `pipeline("text-generation", model="tiny")("It was")`.

    text-generation: those of `generate_texts` and what `generate` takes.
    text-classification: `top_k`, `function_to_apply`. feature-extraction: `return_tensors`.
    zero-shot-classification: `candidate_labels`, `hypothesis_template`, `multi_label`. All:
    `truncation`. Calls, and their errors: see `Pipeline`. Answers are shaped like those of
    transformers. Puts the model into eval mode. Raises ValueError for an unknown task, or if no
    model or tokenizer is given, and the errors of `from_pretrained`.

    Args:
        task: "text-generation", "text-classification", "feature-extraction",
            "zero-shot-classification".
        model: "tiny", a folder, a name on the hub, or an object.
        config: In place of the config of the checkpoint.
        tokenizer: Name, folder or object; default: that of the model.
        dtype: Default: that of the checkpoint or object.
        device: "auto", "cpu", "cuda", the number of a GPU, -1; default: "auto", or where it is.
        batch_size: Rows that are computed at once.
        model_kwargs: For from_pretrained: dtype, revision, n_head, .
        **options: Of the task, for every call; of the hub, such as revision; device_map and
            torch_dtype, transformers' other names of device and dtype.

    Example:
        >>> pipe = pipeline("text-generation", model="tiny")
        >>> pipe("It was late, and", max_new_tokens=20)[0]["generated_text"]
    """
    if task not in TASKS:
        raise ValueError(f"task={task!r}; choose from {', '.join(TASKS)}")
    device, dtype = options.pop("device_map", device), options.pop("torch_dtype", dtype)
    hub, options = split_hub_options(options)
    loading = hub | (model_kwargs or {})
    is_named = isinstance(model, str | Path)
    tokenizer = model if is_named and tokenizer is None else tokenizer
    if model is None or tokenizer is None:
        way = "pass model='tiny', a folder or a name on the hub; with a model object, tokenizer="
        raise ValueError(f"model={model!r:.40}, tokenizer={tokenizer!r:.40}; {way}")
    if isinstance(tokenizer, str | Path):
        hub, _ = split_hub_options(loading)
        tokenizer = OpenAIGPTTokenizerFast.from_pretrained(tokenizer, **hub)
    if is_named:
        told = {"dtype": dtype, "device": device, "config": config, "device_map": "auto"}
        model = TASKS[task][0].from_pretrained(model, **told | loading)
    else:
        place = None if device is None else find_device(device)
        dtype = None if dtype == "auto" else OpenAIGPTConfig(dtype=dtype).dtype
        model = model.to(place, dtype)
    return Pipeline(task, model.eval(), tokenizer, batch_size, options)


# transformers' names of single pipelines, which take a model object and its tokenizer
TextGenerationPipeline = partial(pipeline, "text-generation")
TextClassificationPipeline = partial(pipeline, "text-classification")
FeatureExtractionPipeline = partial(pipeline, "feature-extraction")
ZeroShotClassificationPipeline = partial(pipeline, "zero-shot-classification")
