"""Texts in, answers out: `pipeline(task, model)` and its four tasks."""

import warnings
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

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
from minigpt.hf.models import OpenAIGPTPreTrainedModel
from minigpt.hf.tokenizer_base import clean_up


class Pipeline:
    """Texts in, answers out; `pipeline` makes one. A task is a subclass with two steps of its own.

    1) `encode`: return the rows of ids of a text. 2) `compute(rows, **options)`: return an output
    for each row of a batch. 3) `answer(text, outputs, options)`: return the answer to a text from
    the outputs of its rows. Options not among `defaults` go to `compute`.

    Right padding needs no mask: a causal model never attends to later positions. So a batch is ids
    alone, and each step takes care to read no vector of a padding position.
    """

    auto: type  # what loads the task's model
    defaults: dict = {"truncation": False}  # what `encode` and `answer` look up

    def __init__(self, model, tokenizer, batch_size: int = 1, **options):
        """Puts `model` into eval mode."""
        self.model, self.tokenizer = model.eval(), tokenizer
        self.batch_size, self.options = batch_size, self.defaults | options

    device = property(lambda self: self.model.device)
    dtype = property(lambda self: self.model.dtype)

    def encode(self, text: str | dict, options: dict) -> list[list[int]]:
        """Return the rows of ids of a text, or of {"text", "text_pair"}: here one.

        Raises ValueError for a text without tokens, and TypeError for what is no text.
        """
        texts = text if isinstance(text, dict) else {"text": text}
        most = min(self.model.config.n_positions, self.tokenizer.model_max_length)
        how = {"truncation": options["truncation"] or False, "max_length": most}
        batch = self.tokenizer(**{name: [one] for name, one in texts.items()}, **how)
        if not batch["input_ids"][0]:
            raise ValueError(f"{text!r} is empty: it has no tokens; pass a word at least")
        return batch["input_ids"]

    def batch(self, rows: list[list[int]]) -> Tensor:
        """Pad rows on the right with zeros: (B, T) on the model's device."""
        longest = max(map(len, rows))
        return torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=self.device)

    def __call__(self, inputs, *, batch_size: int | None = None, **options):
        """Answer one text with an answer, a list with a list, any other iterable with a generator.

        `options` replace the pipeline's. Errors: those of the tokenizer and the model, TypeError
        and ValueError, also for an unknown option.
        """
        options = self.options | options
        if not isinstance(inputs, Iterable) and hasattr(inputs, "__getitem__"):  # torch's Dataset
            inputs = map(inputs.__getitem__, range(len(inputs)))
        is_one = isinstance(inputs, str | bytes | dict) or not isinstance(inputs, Iterable)
        is_list = isinstance(inputs, list | tuple)
        encoded = ((x, self.encode(x, options)) for x in ([inputs] if is_one else inputs))
        if is_list:
            encoded = list(encoded)  # an error in any text comes before the work
        answers = self.run(encoded, batch_size or self.batch_size, options)
        if is_one:
            return next(answers)
        return list(answers) if is_list else answers

    def run(self, encoded: Iterable[tuple], size: int, options: dict) -> Iterator:
        """Yield an answer to each text with its rows; `size` rows are computed at once."""
        encoded = iter(encoded)
        others = {name: options[name] for name in options.keys() - self.defaults.keys()}
        while texts := list(islice(encoded, size)):
            rows = [row for _, own in texts for row in own]
            batches = (rows[i : i + size] for i in range(0, len(rows), size))
            with torch.no_grad():
                outputs = [output for batch in batches for output in self.compute(batch, **others)]
            outputs = iter(outputs)
            for text, own in texts:
                yield self.answer(text, list(islice(outputs, len(own))), options)


class FeatureExtractionPipeline(Pipeline):
    """Text -> the vectors of its tokens: see `pipeline`."""

    auto = AutoModel
    defaults = Pipeline.defaults | {"return_tensors": False}

    def compute(self, rows: list[list[int]]) -> list[Tensor]:
        """Return the last hidden states of each row, (T, C)."""
        states = self.model.base_model(self.batch(rows), return_dict=True).last_hidden_state.cpu()
        return [x[: len(row)] for x, row in zip(states, rows, strict=True)]

    def answer(self, text: str, outputs: list[Tensor], options: dict) -> list | Tensor:
        states = outputs[0].unsqueeze(0)  # (T, C) -> (1, T, C)
        return states if options["return_tensors"] else states.tolist()


FUNCTIONS = {  # logits (L,) -> scores (L,)
    "softmax": lambda logits: logits.softmax(-1),
    "sigmoid": torch.sigmoid,
    "none": lambda logits: logits,
}


class TextClassificationPipeline(Pipeline):
    """Text, or {"text", "text_pair"} -> [{"label", "score"}]: see `pipeline`."""

    auto = AutoModelForSequenceClassification
    # top_k: False: the best, not in a list; None: all. function_to_apply: one of FUNCTIONS
    defaults = Pipeline.defaults | {"top_k": False, "function_to_apply": None}

    def compute(self, rows: list[list[int]]) -> Tensor:
        """Return the logits of each row, (B, L), from the vector of its last token."""
        states = self.model.base_model(self.batch(rows), return_dict=True).last_hidden_state
        last = torch.tensor([len(row) - 1 for row in rows], device=states.device)
        vectors = states[torch.arange(len(rows), device=states.device), last]  # (B, T, C) -> (B, C)
        return self.model.score(vectors).float().cpu()

    def answer(self, text, outputs: list[Tensor], options: dict) -> dict | list[dict]:
        """By default, scores are made of logits by the rule of transformers."""
        config, name, k = self.model.config, options["function_to_apply"], options["top_k"]
        if name is None and config.problem_type != "regression":
            several = config.problem_type == "multi_label_classification"
            name = "sigmoid" if several or config.num_labels == 1 else "softmax"
        scores = FUNCTIONS[str(name).lower()](outputs[0]).tolist()
        pairs = [{"label": config.id2label[i], "score": x} for i, x in enumerate(scores)]
        pairs.sort(key=lambda pair: -pair["score"])
        return pairs[0] if k is False else pairs[:k]

    def __call__(self, inputs, **options):
        """See `Pipeline`. One text gets a list, unless `top_k` is told: so does transformers."""
        answer = super().__call__(inputs, **options)
        return [answer] if isinstance(inputs, str) and "top_k" not in options else answer


class ZeroShotClassificationPipeline(Pipeline):
    """Text and labels -> {"sequence", "labels", "scores"}: see `pipeline`."""

    auto, compute = TextClassificationPipeline.auto, TextClassificationPipeline.compute
    defaults = {
        "truncation": "only_first",  # the text is cut, and not the hypothesis
        "candidate_labels": (),  # a list, or a text with commas between the labels
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
        labels, template = options["candidate_labels"], options["hypothesis_template"]
        if not (text and labels):
            what = f"candidate_labels={labels!r} or the text {text!r:.60} is empty"
            raise ValueError(f"{what}; pass a text and labels, such as 'one, two'")
        if template.format(labels[0]) == template:
            raise ValueError(f"hypothesis_template={template!r}; put {{}} where the label goes")
        pairs = ({"text": text, "text_pair": template.format(label)} for label in labels)
        return sum(map(partial(super().encode, options=options), pairs), [])

    def answer(self, text: str, outputs: list[Tensor], options: dict) -> dict:
        logits, labels = torch.stack(outputs), options["candidate_labels"]  # (K labels, L classes)
        if options["multi_label"] or len(logits) == 1:
            contradiction = 0 if self.entailment else -1  # by position, as in transformers
            scores = logits[:, [contradiction, self.entailment]].softmax(-1)[:, 1]  # (K,)
        else:
            scores = logits[:, self.entailment].softmax(-1)
        order = scores.argsort(stable=True).flip(0)  # of equals the later first, as in transformers
        ranked = {"labels": [labels[i] for i in order], "scores": scores[order].tolist()}
        return {"sequence": text, **ranked}

    def __call__(self, sequences, candidate_labels=None, **options):
        """See `Pipeline`."""
        labels = self.options["candidate_labels"] if candidate_labels is None else candidate_labels
        if isinstance(labels, str):
            labels = [label.strip() for label in labels.split(",") if label.strip()]
        return super().__call__(sequences, candidate_labels=labels, **options)


GENERATION = {"max_new_tokens": 256, "do_sample": True, "temperature": 0.7}  # as in transformers


class TextGenerationPipeline(Pipeline):
    """Prompt -> [{"generated_text"}]: see `pipeline`."""

    auto = AutoModelForCausalLM
    # return_full_text=False: only what was added
    defaults = Pipeline.defaults | {"return_full_text": True, "clean_up_tokenization_spaces": False}

    def compute(
        self, rows: list[list[int]], generation_config=None, stop_sequence=None, **options
    ) -> tuple[Tensor, ...]:
        """Continue each prompt N times: (N, n) new ids. `options`: those of `generate`.

        `GENERATION` stands where neither they nor a generation config say something else;
        `stop_sequence` is another name of `stop_strings`.
        """
        config = vars(self.model.generation_config) | vars(generation_config or GenerationConfig())
        ours = GENERATION | {"pad_token_id": self.tokenizer.unk_token_id}  # decoding leaves it out
        if (config | options).get("max_length"):
            del ours["max_new_tokens"]
        if stop_sequence is not None:
            options["stop_strings"] = stop_sequence
        options |= {"tokenizer": self.tokenizer, "return_dict_in_generate": False}
        ids, mask = self.batch(rows), self.batch([[1] * len(row) for row in rows])  # (B, T)
        new = self.model.generate(ids, mask, GenerationConfig(**ours | config), **options)
        return new[:, ids.shape[1] :].cpu().chunk(len(rows))  # (B * N, T + n) -> B of (N, n)

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
    "sentiment-analysis": TextClassificationPipeline,
    "feature-extraction": FeatureExtractionPipeline,
    "zero-shot-classification": ZeroShotClassificationPipeline,
}


def pipeline(
    task: str | None = None,  # a key of TASKS
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
    transformers. Raises ValueError for an unknown task and where nothing tells which model or
    tokenizer to load, and the errors of `from_pretrained`.
    """
    if task not in TASKS:
        raise ValueError(f"task={task!r}; choose from {', '.join(TASKS)}")
    hub, options = split_hub_options(options)
    loading = hub | (model_kwargs or {})
    source = model if tokenizer is None else tokenizer
    if isinstance(source, str | Path):
        tokenizer = AutoTokenizer.from_pretrained(source, **split_hub_options(loading)[0])
    if model is None or tokenizer is None:
        way = "pass model='tiny', a folder or a name on the hub; with a model object, tokenizer="
        raise ValueError(f"model={model!r:.40}, tokenizer={tokenizer!r:.40}: what to load? {way}")
    dtype = torch_dtype if dtype is None else dtype
    placing = {"dtype": dtype, "device": device, "device_map": device_map}
    placing = {name: x for name, x in placing.items() if x is not None}
    if isinstance(model, str | Path):
        if {"device", "device_map"}.isdisjoint(placing.keys() | loading.keys()):
            placing["device"] = "auto"
        model = TASKS[task].auto.from_pretrained(model, **placing, **loading)
    else:
        dtype = OpenAIGPTConfig(dtype=dtype).dtype or model.dtype
        place = device_map if device is None else device
        model = model.to(model.device if place is None else find_device(place), dtype)
    return TASKS[task](model, tokenizer, batch_size, **options)
