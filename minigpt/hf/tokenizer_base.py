"""What both tokenizers share: the interface of transformers, on the library `tokenizers`."""

from functools import partial
from itertools import compress
from pathlib import Path
from typing import Self

import tokenizers
from tokenizers import AddedToken, Encoding, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing

from minigpt.fast import warn_caller

from ..bpe import UNKNOWN, Pair, write_merges, write_vocabulary
from . import tokenizer_files as files
from .batch_encoding import BatchEncoding, to_columns, to_ids, to_texts
from .files import json_writer, naming, save_files, split_hub_options
from .hub import push_to_hub
from .interop import Joinable, counterpart
from .tokenizer_files import EXTRA, ROLES, SETTINGS, check, to_token
from .tokenizer_rules import original_normalizer, split_at_spaces

ENDLESS = 10**18  # tokens; as in transformers, this length means no limit
JOIN = TemplateProcessing(single="$A:0", pair="$A:0 $B:1", special_tokens=[])
COLUMNS = {  # what a call can return beside ids -> its name in an `Encoding`, and its padding
    "token_type_ids": ("type_ids", 0),
    "attention_mask": ("attention_mask", 0),
    "special_tokens_mask": ("special_tokens_mask", 1),
    "offset_mapping": ("offsets", (0, 0)),
}
STRATEGIES = {True: "longest_first", False: None, "do_not_truncate": None}
SPACED = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")


def warn_unused(names) -> None:
    """Warn of unknown options: scripts pass many, so a wrong one is not an error."""
    if unused := sorted(set(names) - {"verbose"}):
        warn_caller(f"options without effect on a tokenizer: {', '.join(unused)}")


def clean_up(text: str) -> str:
    """Remove the spaces before punctuation and contractions, as transformers does."""
    for spaced in SPACED:
        text = text.replace(spaced, spaced.strip())
    return text


@counterpart("transformers.tokenization_utils_base", "PreTrainedTokenizerBase")
class TokenizerBase(Joinable):
    """The base class of both tokenizers.

    `vocab` maps the tokens of the checkpoint to ids, `roles` names like `"pad_token"` to tokens;
    `backend_tokenizer` is the library's tokenizer, which knows the added tokens too.
    """

    unk_token: str  # the roles are properties, made at the end of this file
    bos_token: str | None
    eos_token: str | None
    pad_token: str | None
    unk_token_id: int
    bos_token_id: int | None
    eos_token_id: int | None
    pad_token_id: int | None

    __setattr__ = object.__setattr__
    push_to_hub = push_to_hub
    is_fast = True
    model_input_names = ["input_ids", "attention_mask"]
    padding_side, truncation_side = "right", "right"
    model_max_length = 512  # the positions of GPT-1
    do_lower_case = True
    usual_pipeline = "original"
    clean_up_tokenization_spaces = False  # kept and saved; as in transformers, without effect
    steps = {  # pipeline -> functions that make the library's two steps from a text to words
        "original": (original_normalizer, split_at_spaces),
        "basic": (normalizers.BertNormalizer, pre_tokenizers.BertPreTokenizer),
    }

    def __init__(
        self,
        vocab: dict[str, int] | str | Path | None = None,  # token -> id, or a file
        merges: list[Pair] | str | Path | None = None,  # in the order learned, or a file
        text_pipeline: str | None = None,  # "original" or "basic"
        unk_token: str | dict | AddedToken = UNKNOWN,
        **options,  # special tokens (added if new), sides, lengths; vocab_file, merges_file
    ):
        """`tokenizer_file` or `tokenizer_object`, of the library, may stand for the first three.

        Raises ValueError for an unknown pipeline or a vocabulary without `unk_token`.
        """
        vocab, merges = options.pop("vocab_file", vocab), options.pop("merges_file", merges)
        if whole := options.pop("tokenizer_object", None) or options.pop("tokenizer_file", None):
            options = files.read_whole(whole) | options
            vocab, merges = options.pop("vocab"), options.pop("merges")
            found = options.pop("text_pipeline")
            text_pipeline = text_pipeline or found
        unknown = unk_token if isinstance(unk_token, str) else to_token(unk_token).content
        if isinstance(vocab, str | Path):
            vocab = files.read_json(Path(vocab))
        if isinstance(merges, str | Path):
            merges = files.read_checked_merges(Path(merges))
        self.vocab = {unknown: 0} if vocab is None else vocab
        self.merges, self.roles = [tuple(pair) for pair in merges or ()], {"unk_token": unknown}
        self.text_pipeline = check("text_pipeline", text_pipeline or self.usual_pipeline)
        if unknown not in self.vocab:
            way = "is it GPT-1's? If so, pass its unk_token"
            raise ValueError(f"the vocabulary lacks {unknown!r}; {way}")
        if missing := set(range(len(self.vocab))) - set(self.vocab.values()):
            wrong = f"{len(self.vocab)} tokens, but none has the id {min(missing)}"
            raise ValueError(f"the vocabulary has {wrong}; copy it again")
        suffix = {"unk_token": unknown, "end_of_word_suffix": "</w>"}
        backend = tokenizers.Tokenizer(models.BPE(self.vocab, self.merges, **suffix))
        normalizer, pre_tokenizer = self.steps[self.text_pipeline]
        backend.normalizer, backend.pre_tokenizer = normalizer(), pre_tokenizer()
        backend.decoder, self.backend_tokenizer = decoders.BPEDecoder(suffix="</w>"), backend
        backend.post_processor = options.pop("post_processor", None)
        self.name_or_path = options.pop("name_or_path", "")  # where it was loaded from
        if options or self.text_pipeline == "basic":
            self.configure(options)

    def configure(self, options: dict) -> None:
        """Set added and special tokens, sides and length; ValueError for wrong ones."""
        if self.text_pipeline == "basic":  # as in transformers: found in a text, too
            self.backend_tokenizer.add_special_tokens([self.unk_token])
        added = {int(i): x for i, x in options.pop("added_tokens_decoder", {}).items()}
        for i, token in sorted(added.items()):
            self.add_tokens(token)
            if self.convert_tokens_to_ids(to_token(token).content) != i:
                way = f"does not follow {len(self.vocab)} tokens; copy all files again"
                raise ValueError(f"{token!r:.80} has the id {i}, which {way}")
        special = {name: options.pop(name) for name in (*ROLES, *EXTRA) if name in options}
        self.add_special_tokens({name: tokens for name, tokens in special.items() if tokens})
        for name in SETTINGS:
            if name in options:
                setattr(self, name, check(name, options.pop(name)))
        warn_unused(options)

    def __reduce__(self):  # the library cannot copy or save steps written in Python
        options = self.describe() | {"name_or_path": self.name_or_path}
        options["post_processor"] = self.backend_tokenizer.post_processor
        return partial(type(self), self.vocab, self.merges, **options), ()

    # -- tokens and ids

    def __len__(self) -> int:
        return self.backend_tokenizer.get_vocab_size()

    max_len_single_sentence = max_len_sentences_pair = property(lambda self: self.model_max_length)
    vocab_size = property(lambda self: len(self.vocab))  # without added tokens
    added_tokens_decoder = property(lambda self: self.backend_tokenizer.get_added_tokens_decoder())
    special_tokens_map = property(lambda self: dict(self.roles))
    all_special_tokens = property(lambda self: self.convert_ids_to_tokens(self.all_special_ids))

    @property
    def all_special_ids(self) -> list[int]:
        added = [i for i, token in self.added_tokens_decoder.items() if token.special]
        return sorted({*added, *map(self.convert_tokens_to_ids, self.roles.values())})

    @property
    def added_tokens_encoder(self) -> dict[str, int]:
        return {token.content: i for i, token in sorted(self.added_tokens_decoder.items())}

    @property
    def extra_special_tokens(self) -> list[str]:
        """Special tokens without a role."""
        return [x for x in self.all_special_tokens if x not in self.roles.values()]

    additional_special_tokens = extra_special_tokens

    def get_vocab(self) -> dict[str, int]:
        return self.vocab | self.added_tokens_encoder

    def get_added_vocab(self) -> dict[str, int]:
        return self.added_tokens_encoder

    def set_role(self, name: str, token: str | int | AddedToken | None) -> None:
        """Give a role to a token or id, which is then found in texts; None removes the role.

        As in transformers, a token without an id gets that of `unk_token`: `add_special_tokens`
        adds one. Raises ValueError for another `unk_token`.
        """
        token = self.convert_ids_to_tokens(token) if isinstance(token, int) else token
        token = None if token is None else to_token(token).content
        if name == "unk_token" and token != self.unk_token:
            raise ValueError(f"unk_token is {self.unk_token!r}; to load another, pass unk_token=")
        if token is None:
            self.roles.pop(name, None)
            return
        found = self.backend_tokenizer.token_to_id(token)
        if found is not None:  # an added one keeps its flags
            self.add_tokens(self.added_tokens_decoder.get(found, token), special_tokens=True)
        self.roles[name] = token

    def add_tokens(self, new_tokens, special_tokens: bool = False) -> int:
        """Add tokens, strings or AddedTokens, that are never split; returns how many are new.

        A string may name a special token that was added before. The model's embedding needs a row
        for each: `len(tokenizer)` rows. Raises ValueError for a token that no text can contain.
        """
        new_tokens = new_tokens if isinstance(new_tokens, list | tuple) else [new_tokens]
        before = self.added_tokens_decoder
        special = {token.content: token for token in before.values() if token.special}
        named = [special.get(x, x) if isinstance(x, str) else x for x in new_tokens]
        tokens = [to_token(token, special_tokens) for token in named]
        tokens = [token for token in tokens if token.content != self.unk_token]
        normalizer = self.backend_tokenizer.normalizer
        for token in tokens:
            text = token.content
            left = normalizer.normalize_str(text) if token.normalized else text
            if not left or token.lstrip and text.isspace():  # the library would crash
                raise ValueError(f"{text!r} cannot be added: no text can contain it")
        self.backend_tokenizer.add_tokens(tokens)
        return len(self.added_tokens_decoder) - len(before)

    def add_special_tokens(self, special_tokens_dict: dict, **options) -> int:
        """Add tokens with a role, `{"pad_token": "<pad>"}`, or without, in a list under
        `"additional_special_tokens"`; returns how many are new. Raises ValueError for other keys.
        """
        count = 0
        for name, tokens in special_tokens_dict.items():
            if name not in (*ROLES, *EXTRA):
                raise ValueError(f"no role {name!r}; choose from {', '.join(ROLES + EXTRA)}")
            if name != "unk_token":
                count += self.add_tokens(tokens, special_tokens=True)
            if name in ROLES:
                self.set_role(name, tokens)
        return count

    def convert_tokens_to_ids(self, tokens: str | list[str]) -> int | list[int]:
        """Look up tokens; one outside the vocabulary gets the id of `unk_token`."""
        if isinstance(tokens, list | tuple):
            return [self.convert_tokens_to_ids(token) for token in tokens]
        found = self.backend_tokenizer.token_to_id(tokens)
        return self.vocab[self.unk_token] if found is None else found

    def convert_ids_to_tokens(self, ids, skip_special_tokens: bool = False) -> str | list[str]:
        """Look up ids; an added token comes back as it was added, None for an unknown id."""
        ids, find = to_ids(ids), self.backend_tokenizer.id_to_token
        if isinstance(ids, int):
            return find(ids)
        skipped = self.all_special_ids if skip_special_tokens else ()
        return [find(i) for i in ids if i not in skipped]

    # -- text to ids

    def ids_of(self, texts: list[str]) -> list[list[int]]:
        """Encode texts to ids, and nothing else."""
        encode = self.backend_tokenizer.encode_batch_fast
        return [one.ids for one in encode(texts, add_special_tokens=False)]

    def align(self, texts, pairs, is_split, special, truncation, limit, stride, quick=False):
        """Encode texts or pairs and truncate them, to a list of the library's encodings.

        `quick`: only the ids of tokens are known.
        """
        backend, last = self.backend_tokenizer, tokenizers.Tokenizer(models.BPE())
        if truncation:
            if stride >= limit - special * self.num_special_tokens_to_add(pairs):
                raise ValueError(f"stride={stride}, but fewer tokens are kept; pass less")
            how = {"strategy": truncation, "direction": self.truncation_side}
            last.enable_truncation(min(limit, ENDLESS), stride=stride, **how)
        last.post_processor = backend.post_processor or JOIN  # `last` belongs to this call
        encode = backend.encode_batch_fast if quick else backend.encode_batch
        encode = partial(encode, is_pretokenized=is_split, add_special_tokens=False)
        seconds = encode(pairs) if pairs else [None] * len(texts)
        both = zip(encode(texts), seconds, strict=True)
        return [last.post_process(*one, special) for one in both]

    def columns_of(self, how: tuple, wanted: tuple, overflows: bool) -> tuple[BatchEncoding, list]:
        """Return the columns of a batch, and the library's encodings if they were needed.

        `how`: the arguments of `align`; `wanted`: which of `COLUMNS` there are beside the ids.
        """
        texts, pairs, is_split, special, truncation, limit, _ = how
        names = [*compress(COLUMNS, wanted)]
        special = special and self.backend_tokenizer.post_processor
        if "offset_mapping" in names and not self.is_fast and self.text_pipeline == "original":
            raise NotImplementedError("this tokenizer has no offsets; use OpenAIGPTTokenizerFast")
        quick = not (overflows or {*names} - {"attention_mask"})
        plain = quick and not (pairs or is_split or special)
        try:
            found = self.ids_of(texts) if plain else self.align(*how, quick=quick)
        except Exception as error:  # the library raises several types
            asked = f"truncation={truncation!r}, max_length={limit}"
            raise ValueError(f"cannot encode {texts!r:.80} with {asked}: {error}") from error
        if plain:
            kept = slice(-limit, None) if self.truncation_side == "left" else slice(limit)
            rows = [row[kept] for row in found] if truncation else found
            masks = {name: [[1] * len(row) for row in rows] for name in names}
            return BatchEncoding({"input_ids": rows} | masks), []
        if overflows:
            samples = [i for i, one in enumerate(found) for _ in (one, *one.overflowing)]
            found = [each for one in found for each in (one, *one.overflowing)]
        columns = {"input_ids": [one.ids for one in found]}
        columns |= {name: [getattr(one, COLUMNS[name][0]) for one in found] for name in names}
        columns |= {"overflow_to_sample_mapping": samples} if overflows else {}
        return BatchEncoding(columns), [] if quick else found

    def __call__(
        self,
        text,
        text_pair=None,
        add_special_tokens: bool = True,
        padding: bool | str = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        stride: int = 0,
        is_split_into_words: bool = False,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_tensors: str | None = None,
        return_token_type_ids: bool | None = None,
        return_attention_mask: bool | None = None,
        return_overflowing_tokens: bool = False,
        return_special_tokens_mask: bool = False,
        return_offsets_mapping: bool = False,
        return_length: bool = False,
        **options,
    ) -> BatchEncoding:
        """Encode one text, two, or many: ids and masks, (T,) or together (B, T).

        Raises TypeError if it is not text; ValueError for an unknown choice, for padding without a
        pad token, and for tensors from texts of different lengths.

        Args:
            text: A string, or a list of strings or of pairs; lists of words if
                is_split_into_words.
            text_pair: A second text for each.
            add_special_tokens: Add those of a post-processor; GPT-1 has none.
            padding: True or "longest": to the longest text; "max_length": to max_length.
            truncation: True or "longest_first", "only_first", "only_second"; None: if
                max_length is given.
            max_length: In tokens; default: model_max_length.
            stride: Tokens that an overflowing row shares with the row before.
            is_split_into_words: The texts are lists of words.
            pad_to_multiple_of: Pad to a length that this divides.
            padding_side: Default: the tokenizer's.
            return_tensors: "pt", "np"; None: lists.
            return_token_type_ids: 0 for the first text, 1 for the second.
            return_attention_mask: 1 for each token, 0 for padding; default: yes.
            return_overflowing_tokens: What truncation cuts off, as further rows.
            return_special_tokens_mask: 1 for each special token.
            return_offsets_mapping: (begin, end) in the text.
            return_length: How many tokens each text has.
            **options: Others are accepted, with a warning.

        Example:
            >>> tokenizer("The old man")["input_ids"]
            >>> tokenizer(["One", "Two words"], padding=True, return_tensors="pt").attention_mask
        """
        if options:
            warn_unused(options)
        if truncation is None:  # max_length means: truncate, unless it is the length to pad to
            truncation = max_length is not None and padding != "max_length"
        strategy = STRATEGIES.get(check("truncation", truncation), truncation)
        limit = check("max_length", self.model_max_length if max_length is None else max_length)
        wanted = return_token_type_ids, return_attention_mask is not False
        wanted += return_special_tokens_mask, return_offsets_mapping
        texts, pairs, single = to_texts(text, text_pair, is_split_into_words)
        how = texts, pairs, is_split_into_words, add_special_tokens, strategy, limit, stride
        batch, found = self.columns_of(how, wanted, return_overflowing_tokens)
        if padding:
            self.fill(batch, padding, limit, pad_to_multiple_of, padding_side)
        batch |= {"length": [*map(len, batch["input_ids"])]} if return_length else {}
        batch.make = partial(self.padded, found, how, batch["input_ids"], padding_side)
        if check("return_tensors", return_tensors):
            batch.convert_to_tensors(return_tensors)
        elif single and not return_overflowing_tokens:
            batch.update({k: x[0] for k, x in batch.items() if isinstance(x[0], list)})
        return batch

    def padded(self, found: list[Encoding], how: tuple, rows: list[list], side: str | None):
        """Return the library's encodings, as long as the rows of ids that were returned."""
        found = found or self.align(*how)
        pad = {"pad_id": self.pad_token_id or 0, "pad_token": self.pad_token or ""}
        for one, row in zip(found, rows, strict=True):
            one.pad(len(row), direction=side or self.padding_side, **pad)
        return found

    def fill(self, columns: dict, padding, limit: int, multiple, side) -> None:
        """Pad the columns of a batch. Raises ValueError without a pad token."""
        rows = columns["input_ids"]
        endless = padding == "max_length" and limit >= ENDLESS
        if check("padding", padding) in (False, None, "do_not_pad") or endless or not rows:
            return
        if self.pad_token is None:
            way = "any will do, as the mask hides it: tokenizer.pad_token = tokenizer.unk_token"
            raise ValueError(f"padding needs a pad token, and GPT-1 has none; {way}")
        is_left = check("padding_side", side or self.padding_side) == "left"
        multiple = check("pad_to_multiple_of", multiple or 1)
        length = limit if padding == "max_length" else max(map(len, rows))
        length = -(-length // multiple) * multiple
        lacks = [length - len(row) for row in rows]  # a longer row stays as it is
        pads = {name: x for name, (_, x) in COLUMNS.items()} | {"input_ids": self.pad_token_id}
        for name in columns.keys() & pads.keys():
            pad, both = pads[name], zip(columns[name], lacks, strict=True)
            columns[name] = [[pad] * n + row if is_left else row + [pad] * n for row, n in both]

    def pad(
        self,
        encoded_inputs,  # a batch, or a list of single encodings
        padding: bool | str = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,  # default: the tokenizer's
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,  # default: the kind of the input
        verbose: bool = True,
    ) -> BatchEncoding:
        """Pad encoded texts, (B, T). Errors: those of `fill` and `to_columns`."""
        columns, single, kind = to_columns(encoded_inputs)
        if return_attention_mask is not False:
            columns.setdefault("attention_mask", [[1] * len(row) for row in columns["input_ids"]])
        limit = check("max_length", self.model_max_length if max_length is None else max_length)
        self.fill(columns, padding, limit, pad_to_multiple_of, padding_side)
        batch = BatchEncoding(columns)
        batch.convert_to_tensors(check("return_tensors", return_tensors or kind))
        return BatchEncoding({name: x[0] for name, x in batch.items()}) if single else batch

    def encode(self, text, text_pair=None, **options) -> list[int]:
        """Return the ids of a text or a pair; `options` are those of a call."""
        return self(text, text_pair, **options)["input_ids"]

    def tokenize(self, text, pair=None, add_special_tokens=False, **options) -> list[str]:
        """Return the tokens of a text or a pair; `options` are those of a call."""
        options["add_special_tokens"] = add_special_tokens
        return self.convert_ids_to_tokens(self.encode(text, pair, **options))

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        return self.backend_tokenizer.num_special_tokens_to_add(bool(pair))

    def get_special_tokens_mask(
        self, token_ids_0, token_ids_1=None, already_has_special_tokens=True
    ) -> list[int]:
        """Say of each id (T,) whether it is that of a special token: 1, or not: 0."""
        special = set(self.all_special_ids)
        return [int(x in special) for x in (*to_ids(token_ids_0), *to_ids(token_ids_1 or ()))]

    # -- ids to text

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Join tokens with a space after each word but the last."""
        return self.backend_tokenizer.decoder.decode(tokens)

    clean_up_tokenization = staticmethod(clean_up)

    def decode(
        self, token_ids, skip_special_tokens=False, clean_up_tokenization_spaces=False, **options
    ) -> str | list[str]:
        """Turn ids (T,) into a lower-case text with a space between words; (B, T) into a list."""
        ids = to_ids(token_ids)
        if isinstance(ids, list) and ids and isinstance(ids[0], list):
            return [self.decode(x, skip_special_tokens, clean_up_tokenization_spaces) for x in ids]
        ids = [ids] if isinstance(ids, int) else ids
        skipped = self.all_special_ids if skip_special_tokens else ()
        ids = [i for i in ids if i not in skipped]
        text = self.backend_tokenizer.decode(ids, skip_special_tokens=False)
        return clean_up(text) if clean_up_tokenization_spaces else text

    def batch_decode(self, sequences, **options) -> list[str]:
        """Turn rows of ids, (B, T), into a list of texts."""
        return [self.decode(row, **options) for row in to_ids(sequences)]

    # -- files

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, text_pipeline: str | None = None, **options
    ) -> Self:
        """Load the tokenizer of a checkpoint.

        `options` replace settings, such as `pad_token="<pad>"` or `model_max_length=1024`; they may
        hold `HUB_OPTIONS`. Raises FileNotFoundError if there is no checkpoint, ValueError for a
        damaged file, naming it, and the errors of the class.

        Args:
            pretrained_model_name_or_path: "tiny", a folder or a name on the hub.
            text_pipeline: "original", as OpenAI prepared texts, or "basic", as transformers
                does.
            **options: Settings to replace, HUB_OPTIONS such as revision.

        Example:
            >>> OpenAIGPTTokenizerFast.from_pretrained("tiny", pad_token="<unk>")
        """
        name = str(pretrained_model_name_or_path)
        hub, options = split_hub_options(options)
        settings, source = files.read_checkpoint(name, **hub)
        options |= {"text_pipeline": text_pipeline} if text_pipeline else {}
        with naming(source):
            return cls(**settings | {"name_or_path": name} | options)

    def describe(self) -> dict:
        """Collect the settings that the class takes, as `tokenizer_config.json` holds them."""
        added = sorted(self.added_tokens_decoder.items())
        return {
            "text_pipeline": self.text_pipeline,
            **{name: getattr(self, name) for name in SETTINGS},
            **self.roles,
            "extra_special_tokens": self.extra_special_tokens,
            "added_tokens_decoder": {str(i): token.__getstate__() for i, token in added},
        }

    def save_vocabulary(
        self, save_directory: str | Path, filename_prefix: str | None = None
    ) -> tuple[str, str]:
        """Write vocabulary and merges into a folder that exists; returns the two paths."""
        names = files.VOCAB_NAMES[0], files.MERGES_NAMES[0]
        prefix = f"{filename_prefix}-" if filename_prefix else ""
        vocab, merges = (str(Path(save_directory, prefix + name)) for name in names)
        write_vocabulary(vocab, self.vocab)
        write_merges(merges, self.merges)
        return vocab, merges

    def writers(self) -> dict:
        """Plan the four files of a tokenizer: name -> function that writes it to a path."""
        parts = self.__reduce__()[0]
        portable = TokenizerBase(*parts.args, **parts.keywords)  # without steps in Python
        whole = portable.backend_tokenizer.to_str().encode()
        # transformers' own class rebuilds the basic pipeline; its generic class loads ours
        is_basic = self.text_pipeline == "basic"
        kind = "OpenAIGPTTokenizer" if is_basic else "PreTrainedTokenizerFast"
        return {  # loading looks for the last one first
            "tokenizer_config.json": json_writer({"tokenizer_class": kind} | self.describe()),
            "tokenizer.json": lambda path: path.write_bytes(whole),
            files.MERGES_NAMES[0]: partial(write_merges, merges=self.merges),
            files.VOCAB_NAMES[0]: partial(write_vocabulary, vocabulary=self.vocab),
        }

    def save_pretrained(self, save_directory: str | Path, **options) -> tuple[str, ...]:
        """Write four files into a folder, for minigpt and transformers; returns their paths.

        `options` of a model's method are accepted and have no effect.
        """
        names = save_files(save_directory, self.writers())
        return tuple(str(Path(save_directory, name)) for name in names)


for name in ROLES:  # pad_token and pad_token_id, and so on
    token = property(lambda t, n=name: t.roles.get(n), lambda t, x, n=name: t.set_role(n, x))
    find = property(lambda t, n=name: t.convert_tokens_to_ids(t.roles[n]) if n in t.roles else None)
    setattr(TokenizerBase, name, token)
    setattr(TokenizerBase, f"{name}_id", find.setter(token.fset))
