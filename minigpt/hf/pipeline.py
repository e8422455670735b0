"""Texts in, answers out: `pipeline(task, model)` and its four tasks."""

import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import fields
from inspect import signature
from itertools import islice
from numbers import Integral
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from minigpt.hf.auto import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)
from minigpt.hf.configuration import OpenAIGPTConfig
from minigpt.hf.files import split_hub_options
from minigpt.hf.generation_config import GenerationConfig
from minigpt.hf.loading import find_device
from minigpt.hf.models import OpenAIGPTLMHeadModel, OpenAIGPTPreTrainedModel
from minigpt.hf.tokenizer_base import clean_up


class Pipeline:
    """Texts in, answers out; `pipeline` makes one. A task is a subclass: options and three steps.

    Right padding needs no mask: a causal model never attends to later positions. So a batch is ids
    alone, and each step takes care to read no vector of a padding position.
    """

    auto: type[AutoModel]  # what loads the task's model
    defaults: dict = {}  # the task's options; `truncation`: as in a tokenizer's call
    others: set[str] = set()  # options that are passed on

    def __init__(self, model, tokenizer, task: str, batch_size: int = 1, **options):
        """Puts `model` into eval mode. Raises TypeError for an unknown option."""
        self.model, self.tokenizer, self.task = model.eval(), tokenizer, task
        self.batch_size, self.options = batch_size, options
        self.settings({})

    device = property(lambda self: self.model.device)
    dtype = property(lambda self: self.model.dtype)

    def __repr__(self) -> str:
        about = f"model={type(self.model).__name__}, dtype={self.dtype}, device={self.device}"
        return f"{type(self).__name__}({self.task!r}, {about})"

    def settings(self, given: dict) -> dict:
        """Return all options of a call. Raises TypeError, listing the known ones, for another."""
        options = self.options | given
        known = self.defaults.keys() | self.others
        if unknown := sorted(options.keys() - known):
            known = ", ".join(sorted(known))
            raise TypeError(f"no option {', '.join(unknown)}; choose from {known}")
        return self.defaults | options

    def encode(self, text: str, options: dict) -> list[list[int]]:
        """Step 1, a text: return its rows of ids. Here: one, of the text itself."""
        return [self.ids_of(text, None, options["truncation"])]

    def compute(self, rows: list[list[int]], options: dict) -> Iterable:
        """Step 2, a batch of rows: return an output for each."""
        raise NotImplementedError

    def answer(self, text: str, outputs: list, options: dict):
        """Step 3, a text and the outputs of its rows: return the answer."""
        raise NotImplementedError

    def ids_of(self, text: str, pair: str | None, truncation: bool | str) -> list[int]:
        """Encode a text, or two. Raises TypeError if one is no string, ValueError for no tokens and
        for more of them than the model has positions.
        """
        for value in (text, "" if pair is None else pair):
            if not isinstance(value, str):
                raise TypeError(f"expected a string or a list of strings, got {value!r:.60}")
        limit = self.model.config.n_positions
        most = min(limit, self.tokenizer.model_max_length)
        cutting = {"truncation": truncation, "max_length": most}
        ids = self.tokenizer(text, pair, **cutting if truncation else {})["input_ids"]
        if not ids:
            raise ValueError(f"{text!r} is empty: it has no tokens; pass a word at least")
        if len(ids) > limit:
            way = "shorten it or pass truncation=True"
            raise ValueError(f"the text has {len(ids)} tokens, this model {limit} positions; {way}")
        return ids

    def batch(self, rows: list[list[int]], filler: int | None = None) -> Tensor:
        """Pad rows on the right: (B, T) on the model's device; `filler`: default, the pad token."""
        filler = (self.model.config.pad_token_id or 0) if filler is None else filler
        longest = max(map(len, rows))
        padded = [row + [filler] * (longest - len(row)) for row in rows]
        return torch.tensor(padded, device=self.device)

    def __call__(self, inputs, *, batch_size: int | None = None, **options):
        """Answer one text with an answer, a list with a list, any other iterable with a generator.

        A bar shows the progress in a list of 10 or more that takes over a second. `options` replace
        the pipeline's. Raises ValueError for an empty list and a batch size below 1, and the errors
        of `encode`.
        """
        options = self.settings(options)
        size = self.batch_size if batch_size is None else batch_size
        if size < 1:
            raise ValueError(f"batch_size={size}; pass 1 or more")
        if not isinstance(inputs, Iterable) and hasattr(inputs, "__getitem__"):  # torch's Dataset
            inputs = map(inputs.__getitem__, range(len(inputs)))
        if isinstance(inputs, str | bytes | dict) or not isinstance(inputs, Iterable):
            return next(self.run([(inputs, self.encode(inputs, options))], size, options))
        encoded = self.encode_all(inputs, options)
        if not isinstance(inputs, list | tuple):
            return self.run(encoded, size, options)
        if not inputs:
            raise ValueError("the list is empty; pass one text at least")
        encoded = list(encoded)  # an error in any text comes before the work
        bar = {"total": len(encoded), "disable": len(encoded) < 10, "delay": 1, "unit": "text"}
        return list(tqdm(self.run(encoded, size, options), desc=self.task, **bar))

    def encode_all(self, texts: Iterable, options: dict) -> Iterator[tuple]:
        """Yield each text with its rows. Errors are those of `encode`, with the text's number."""
        for number, text in enumerate(texts):
            try:
                yield text, self.encode(text, options)
            except (TypeError, ValueError) as error:
                kind = TypeError if isinstance(error, TypeError) else ValueError
                raise kind(f"text {number}: {error}") from error

    def run(self, encoded: Iterable[tuple], size: int, options: dict) -> Iterator:
        """Yield an answer to each text with its rows; a batch holds `size` rows, of any texts."""
        waiting = deque()  # texts whose rows have left, and how many these were

        def rows() -> Iterator[list[int]]:
            for text, own in encoded:
                waiting.append((text, len(own)))
                yield from own

        stream, compute = rows(), torch.no_grad()(self.compute)
        batches = iter(lambda: list(islice(stream, size)), [])
        outputs = (output for batch in batches for output in compute(batch, options))
        for first in outputs:
            text, count = waiting.popleft()
            yield self.answer(text, [first, *islice(outputs, count - 1)], options)


class FeatureExtractionPipeline(Pipeline):
    """Text -> the vectors of its tokens: see `pipeline`."""

    auto = AutoModel
    defaults = {"truncation": False, "return_tensors": False}

    def compute(self, rows: list[list[int]], options: dict) -> list[Tensor]:
        """Return the last hidden states of each row, (T, C)."""
        states = self.model.base_model(self.batch(rows), return_dict=True).last_hidden_state.cpu()
        return [x[: len(row)] for x, row in zip(states, rows, strict=True)]

    def answer(self, text: str, outputs: list[Tensor], options: dict) -> list | Tensor:
        states = outputs[0].unsqueeze(0)  # (T, C) -> (1, T, C)
        return states if options["return_tensors"] else states.tolist()


class ClassifierPipeline(Pipeline):
    """What the tasks with a classifier share."""

    auto = AutoModelForSequenceClassification

    def compute(self, rows: list[list[int]], options: dict) -> Tensor:
        """Return the logits of each row, (B, L), from the vector of its last token."""
        states = self.model.base_model(self.batch(rows), return_dict=True).last_hidden_state
        last = torch.tensor([len(row) - 1 for row in rows], device=states.device)
        vectors = states[torch.arange(len(rows), device=states.device), last]  # (B, T, C) -> (B, C)
        return self.model.score(vectors).float().cpu()


FUNCTIONS = {  # logits (L,) -> scores (L,)
    "softmax": lambda logits: logits.softmax(-1),
    "sigmoid": torch.sigmoid,
    "none": lambda logits: logits,
}


def function_of(config) -> str:
    """Name the function that makes scores of logits, by the rule of transformers."""
    if config.problem_type == "regression":
        return "none"
    several = config.problem_type == "multi_label_classification"
    return "sigmoid" if several or config.num_labels == 1 else "softmax"


class TextClassificationPipeline(ClassifierPipeline):
    """Text, or {"text", "text_pair"} -> [{"label", "score"}]: see `pipeline`."""

    # top_k: False: the best, not in a list; None: all. function_to_apply: see `function_of`
    defaults = {"truncation": False, "top_k": False, "function_to_apply": None}

    def settings(self, given: dict) -> dict:
        """Raises ValueError for an unknown function, and a `top_k` that counts nothing."""
        options = super().settings(given)
        name, k = options["function_to_apply"], options["top_k"]
        name = function_of(self.model.config) if name is None else str(name).lower()
        if name not in FUNCTIONS:
            raise ValueError(f"function_to_apply={name!r}; choose from {', '.join(FUNCTIONS)}")
        if not (k is None or k is False or isinstance(k, Integral) and k > 0):
            raise ValueError(f"top_k={k!r}; pass 1 or more, or None for all classes")
        return options | {"function_to_apply": name}

    def encode(self, text: str | dict, options: dict) -> list[list[int]]:
        if isinstance(text, dict):
            if "text" not in text or text.keys() - {"text", "text_pair"}:
                raise TypeError(f"expected {{'text': ..., 'text_pair': ...}}, got {text!r:.60}")
            return [self.ids_of(text["text"], text.get("text_pair"), options["truncation"])]
        return super().encode(text, options)

    def answer(self, text, outputs: list[Tensor], options: dict) -> dict | list[dict]:
        scores, names = (
            FUNCTIONS[options["function_to_apply"]](outputs[0]),
            self.model.config.id2label,
        )
        pairs = [{"label": names[i], "score": score} for i, score in enumerate(scores.tolist())]
        pairs.sort(key=lambda pair: -pair["score"])
        return pairs[0] if options["top_k"] is False else pairs[: options["top_k"]]

    def __call__(self, inputs, **options):
        """See `Pipeline`. One text gets a list, unless `top_k` is told: so does transformers."""
        answer = super().__call__(inputs, **options)
        return [answer] if isinstance(inputs, str) and "top_k" not in options else answer


def to_labels(labels: str | list[str] | None) -> list[str]:
    """Return a list of labels; a string holds several, with commas between them."""
    if isinstance(labels, str):
        labels = [label.strip() for label in labels.split(",") if label.strip()]
    way = "pass a list of words, or 'one, two'"
    if not isinstance(labels, list | tuple) or not all(isinstance(x, str) for x in labels):
        raise TypeError(f"candidate_labels={labels!r}; {way}")
    if not labels:
        raise ValueError(f"candidate_labels is empty; {way}")
    return list(labels)


def fill_template(template: str, label: str) -> str:
    """Put a label into a template. Raises ValueError if it has no place {} for it."""
    try:
        filled = template.format(label)
    except (AttributeError, IndexError, KeyError, ValueError):  # {label}, {} {}, no string
        filled = template
    if filled == template:
        raise ValueError(f"hypothesis_template={template!r}; put {{}} where the label should go")
    return filled


class ZeroShotClassificationPipeline(ClassifierPipeline):
    """Text and labels -> {"sequence", "labels", "scores"}: see `pipeline`."""

    defaults = {
        "truncation": "only_first",  # the text is cut, and not the hypothesis
        "candidate_labels": None,
        "hypothesis_template": "This example is {}.",
        "multi_label": False,
    }

    def __init__(self, *args, **options):
        """Warns if no class of the model is called entailment; the last one is taken for it."""
        super().__init__(*args, **options)
        names = [name.lower() for _, name in sorted(self.model.config.id2label.items())]
        found = [i for i, name in enumerate(names) if name.startswith("entail")]
        self.entailment = found[0] if found else len(names) - 1
        if not found:
            warnings.warn(
                f"no class is called 'entailment' among {[*self.model.config.id2label.values()]}, "
                "so the last is taken for it; load a model trained on inference, with id2label",
                stacklevel=3,  # at the line that called pipeline
            )

    def encode(self, text: str, options: dict) -> list[list[int]]:
        """Return a row for each label: the text and a hypothesis about it."""
        labels, cutting = to_labels(options["candidate_labels"]), options["truncation"]
        super().encode(text, options)  # an empty text is an error, whatever label follows it
        template = options["hypothesis_template"]
        return [self.ids_of(text, fill_template(template, label), cutting) for label in labels]

    def answer(self, text: str, outputs: list[Tensor], options: dict) -> dict:
        logits = torch.stack(outputs)  # (K labels, L classes)
        if options["multi_label"] or len(logits) == 1:
            contradiction = 0 if self.entailment else -1  # by position, as in transformers
            scores = logits[:, [contradiction, self.entailment]].softmax(-1)[:, 1]  # (K,)
        else:
            scores = logits[:, self.entailment].softmax(-1)
        order = scores.argsort(stable=True).flip(0)  # of equals the later first, as in transformers
        labels = to_labels(options["candidate_labels"])
        ranked = {"labels": [labels[i] for i in order], "scores": scores[order].tolist()}
        return {"sequence": text, **ranked}

    def __call__(self, sequences, candidate_labels=None, **options):
        """See `Pipeline`."""
        labels = {} if candidate_labels is None else {"candidate_labels": candidate_labels}
        return super().__call__(sequences, **labels, **options)


GENERATION = {"max_new_tokens": 256, "do_sample": True, "temperature": 0.7}  # as in transformers
GENERATE = {field.name for field in fields(GenerationConfig)}  # the options that `generate` gets
GENERATE |= {*signature(OpenAIGPTLMHeadModel.generate).parameters}
GENERATE -= {"self", "input_ids", "inputs", "attention_mask", "settings", "tokenizer"}  # ours
GENERATE -= {"return_dict_in_generate", "output_scores"}  # the answer is a text


def said(config: GenerationConfig | None) -> dict:
    """Return the settings that a generation config does not leave open."""
    settings = {} if config is None else vars(config)
    return {name: value for name, value in settings.items() if value is not None}


class TextGenerationPipeline(Pipeline):
    """Prompt -> [{"generated_text"}]: see `pipeline`."""

    auto = AutoModelForCausalLM
    # stop_sequence: another name of stop_strings. return_full_text=False: only what was added
    defaults = {"truncation": False, "stop_sequence": None, "return_full_text": True}
    defaults |= {"clean_up_tokenization_spaces": False}
    others = GENERATE

    def generate_options(self, options: dict) -> tuple[dict, int | None]:
        """Return the options for `generate`, and how many tokens it adds, if that is told.

        `GENERATION` stands where neither the options nor a generation config say something else.
        Raises ValueError for both names of the strings to stop at.
        """
        given = {name: options[name] for name in GENERATE & options.keys()}
        given = {name: x for name, x in given.items() if x is not None or name == "top_k"}
        if options["stop_sequence"] is not None:
            if "stop_strings" in given:
                raise ValueError("stop_sequence and stop_strings are two names of one; pass one")
            given["stop_strings"] = options["stop_sequence"]
        known = said(self.model.generation_config) | said(given.get("generation_config")) | given
        pad, unknown = self.tokenizer.pad_token_id, self.tokenizer.unk_token_id
        has_row = pad is not None and pad < self.model.config.vocab_size  # else new to the model
        ours = GENERATION | {"pad_token_id": pad if has_row else unknown}  # decoding leaves it out
        unwanted = {"max_new_tokens"} if "max_length" in known else set()
        unwanted |= set() if known.get("do_sample", True) else {"temperature"}
        ours = {name: ours[name] for name in ours.keys() - known.keys() - unwanted}
        fixed = {"tokenizer": self.tokenizer, "return_dict_in_generate": False}
        return ours | given | fixed, (ours | known).get("max_new_tokens")

    def compute(self, rows: list[list[int]], options: dict) -> list[Tensor]:
        """Continue each prompt N times, as it would go on alone: (N, n) new ids."""
        options, added = self.generate_options(options)
        lengths = [len(row) for row in rows]
        fits = added is not None and max(lengths) + added <= self.model.config.n_positions
        new_ids: list = [None] * len(rows)
        for length in [None] if fits else {*lengths}:  # all at once, or rows of the same length
            group = [i for i in range(len(rows)) if length in (None, lengths[i])]
            ids = self.batch([rows[i] for i in group])  # (B, T)
            mask = self.batch([[1] * lengths[i] for i in group], 0)
            new = self.model.generate(ids, attention_mask=mask, **options)  # (B * N, T + n)
            for i, own in zip(group, new[:, ids.shape[1] :].cpu().chunk(len(group)), strict=True):
                new_ids[i] = own
        return new_ids

    def answer(self, text: str, outputs: list[Tensor], options: dict) -> list[dict[str, str]]:
        answers, full = [], options["return_full_text"] in (None, True)
        for ids in outputs[0]:
            new = self.tokenizer.decode(ids, skip_special_tokens=True)
            new = ("" if not new or text[-1:].isspace() else " ") + new
            new = clean_up(new) if options["clean_up_tokenization_spaces"] else new
            answers.append({"generated_text": text + new if full else new.lstrip(" ")})
        return answers


TASKS: dict[str, type[Pipeline]] = {
    "text-generation": TextGenerationPipeline,
    "text-classification": TextClassificationPipeline,
    "feature-extraction": FeatureExtractionPipeline,
    "zero-shot-classification": ZeroShotClassificationPipeline,
}
OTHER_NAMES = {"sentiment-analysis": "text-classification"}


def load_model(task: str, model, placing: dict, **options) -> OpenAIGPTPreTrainedModel:
    """Load a task's model, or take one that is loaded; `placing`: its dtype, device, device_map.

    Raises TypeError if it is a model of another kind, and the errors of `from_pretrained`.
    """
    auto = TASKS[task].auto
    kind = OpenAIGPTPreTrainedModel if auto is AutoModel else auto.target
    if isinstance(model, str | Path):
        on = {} if {"device", "device_map"} & {*placing, *options} else {"device": "auto"}
        return auto.from_pretrained(model, **on, **placing, **options)
    if not isinstance(model, kind):
        raise TypeError(
            f"{task} needs {kind}, not {type(model)}; pass model= a name, a folder, or what "
            f"minigpt's {auto.__name__}.from_pretrained returns"
        )
    if device := [placing[name] for name in ("device", "device_map") if name in placing]:
        model = model.to(find_device(*device))
    return model.to(OpenAIGPTConfig(dtype=placing.get("dtype")).dtype or model.dtype)


def load_tokenizer(model, tokenizer, **hub):
    """Load a tokenizer by name, by default that of the model, or take one that is loaded.

    Raises ValueError if there is nothing to go by.
    """
    source = model if tokenizer is None else tokenizer
    if isinstance(source, str | Path):
        return AutoTokenizer.from_pretrained(source, **hub)
    if not hasattr(tokenizer, "model_max_length"):
        way = "pass tokenizer=, the model's name or what AutoTokenizer.from_pretrained returns"
        raise ValueError(f"which tokenizer? {tokenizer!r:.60} is none; {way}")
    return tokenizer


def pipeline(
    task: str | None = None,  # a key of TASKS or OTHER_NAMES
    model: str | Path | OpenAIGPTPreTrainedModel | None = None,
    tokenizer=None,  # name, folder or object; default: the one beside the model
    dtype: torch.dtype | str | None = None,  # default: as the checkpoint or the object has it
    device: int | str | torch.device | None = None,  # None: "auto"; an object stays
    batch_size: int = 1,  # rows that are computed at once
    model_kwargs: dict | None = None,  # for from_pretrained: dtype, revision, n_head, ...
    device_map: int | str | torch.device | None = None,  # transformers' other name of `device`
    torch_dtype: torch.dtype | str | None = None,  # older name of `dtype`
    **options,  # of the task, for every call; of the hub, such as revision
) -> Pipeline:
    """Make a function from texts to answers: `pipeline("text-generation", model="tiny")("It was")`.

    text-generation: `return_full_text`, `clean_up_tokenization_spaces` and what `generate` takes.
    text-classification: `top_k`, `function_to_apply`. feature-extraction: `return_tensors`.
    zero-shot-classification: `candidate_labels`, `hypothesis_template`, `multi_label`. All:
    `truncation`. Calls, and their errors: see `Pipeline`. Answers are shaped like those of
    transformers. Raises ValueError for an unknown task, TypeError for an unknown option, and the
    errors of `load_model`, `load_tokenizer` and `from_pretrained`.
    """
    name = OTHER_NAMES.get(task, task)
    if name not in TASKS:
        raise ValueError(f"task={task!r}; choose from {', '.join([*TASKS, *OTHER_NAMES])}")
    if model is None:
        raise ValueError(f"no model for {name}; pass model='tiny', a folder or a name on the hub")
    hub, options = split_hub_options(options)
    loading = hub | (model_kwargs or {})
    tokenizer = load_tokenizer(model, tokenizer, **split_hub_options(loading)[0])
    dtype = torch_dtype if dtype is None else dtype
    placing = {"dtype": dtype, "device": device, "device_map": device_map}
    placing = {option: value for option, value in placing.items() if value is not None}
    network = load_model(name, model, placing, **loading)
    return TASKS[name](network, tokenizer, name, batch_size, **options)
