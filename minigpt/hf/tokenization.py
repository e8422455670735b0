"""The tokenizers, with the interface of transformers, over the library `tokenizers`.

`OpenAIGPTTokenizer` prepares a text in Python, exactly as OpenAI's code did, and
`OpenAIGPTTokenizerFast` with rules in Rust. Everything else they share.
"""

import re
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path

import tokenizers
from tokenizers import Encoding, decoders, models, normalizers, pre_tokenizers, processors

from ..bpe import UNKNOWN, Pair, write_merges, write_vocabulary
from ..tokenizer import Tokenizer, split_chunk, split_chunks
from .batch_encoding import (
    PADDINGS,
    TRUNCATIONS,
    BatchEncoding,
    Request,
    Row,
    is_text,
    kind_of,
    lengths_to_keep,
    pad_row,
    pick,
    to_columns,
    to_rows,
    to_texts,
)
from .files import json_writer, naming, save_files, saving, split_hub_options
from .tokenizer_files import (
    EXTRA,
    MERGES_NAMES,
    PIPELINES,
    ROLES,
    SETTINGS,
    VOCAB_NAMES,
    as_page,
    check_setting,
    check_unknown,
    choose,
    parse_settings,
    read_checkpoint,
    read_merges,
    read_vocabulary,
)
from .tokenizer_rules import original_normalizer, split_at_spaces
from .vocabulary import Vocabulary, clean_up, replace_surrogates, to_ids, warn, warn_unknown

ENDLESS = 10**20  # a model_max_length above means, as in transformers, that there is none
JOIN = processors.TemplateProcessing(single="$A:0", pair="$A:0 $B:1", special_tokens=[])
LONG_CHUNK = 500  # characters; spaCy's time grows with the square of a chunk's length


class TokenizerBase(Vocabulary):
    """All that the two tokenizers share."""

    is_fast = True
    model_input_names = ["input_ids", "attention_mask"]
    padding_side, truncation_side = "right", "right"
    model_max_length = 512  # the positions of GPT-1
    name_or_path = ""  # the checkpoint that it was loaded from
    do_lower_case = True

    def __init__(
        self,
        vocab: dict[str, int] | str | Path | None = None,  # token -> id, or a file
        merges: list[Pair] | str | Path | None = None,  # in the order learned, or a file
        text_pipeline: str | None = None,  # "original" or "basic"
        unk_token: str = UNKNOWN,
        **options,  # special tokens (added if new), sides, lengths; vocab_file, merges_file
    ):
        """Raises ValueError for an unknown pipeline or a vocabulary without `unk_token`."""
        vocab, merges = options.pop("vocab_file", vocab), options.pop("merges_file", merges)
        self.vocab = read_vocabulary(Path(vocab)) if isinstance(vocab, str | Path) else vocab
        self.vocab = {str(unk_token): 0} if vocab is None else self.vocab
        merges = read_merges(Path(merges)) if isinstance(merges, str | Path) else merges or ()
        self.merges = [tuple(pair) for pair in merges]
        self.text_pipeline = self.choose_pipeline(text_pipeline)
        self.roles = {"unk_token": check_unknown(str(unk_token), self.vocab)}
        suffix = {"unk_token": str(unk_token), "end_of_word_suffix": "</w>"}
        try:
            self.backend_tokenizer = self.assemble(models.BPE(self.vocab, self.merges, **suffix))
        except Exception as error:  # the library raises no other for a merge of an unknown token
            raise ValueError(f"{error}; take vocabulary and merges from one checkpoint") from error
        if self.text_pipeline == "basic":  # as transformers: found in a text, too
            self.add_tokens([str(unk_token)], special_tokens=True)
        warn_unknown(options.keys() - {*ROLES, *SETTINGS, *EXTRA})
        self.configure(parse_settings(options))

    def configure(self, settings: dict) -> None:
        """Take over added and special tokens, sides and length, as `parse_settings` gives them."""
        for index, token in sorted(settings.get("added_tokens_decoder", {}).items()):
            self.add_tokens([token] if token.content != self.unk_token else [])
            if self.convert_tokens_to_ids(token.content) != index:
                raise ValueError(
                    f"{token.content!r} has the id {index}, which does not follow the "
                    f"{len(self.vocab)} tokens of the vocabulary; copy all files again"
                )
        roles = {name: settings[name] for name in ROLES if name in settings}
        known = {self.unk_token, *self.added_tokens_encoder}
        new = [*roles.values(), *settings.get("extra_special_tokens", ())]
        self.add_tokens([token for token in new if token.content not in known])
        for name, token in roles.items():
            self.set_role(name, token)
        for name in SETTINGS:
            setattr(self, name, settings.get(name, getattr(self, name)))

    # -- how a text is prepared

    @staticmethod
    def choose_pipeline(wanted: str | None) -> str:
        return choose("text_pipeline", wanted or "original", PIPELINES)

    def prepare(self) -> tuple[normalizers.Normalizer, pre_tokenizers.PreTokenizer]:
        """Return the library's two steps from a text to words."""
        if self.text_pipeline == "basic":
            return normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
        return original_normalizer(), split_at_spaces()

    def assemble(self, model: models.BPE) -> tokenizers.Tokenizer:
        backend = tokenizers.Tokenizer(model)
        backend.normalizer, backend.pre_tokenizer = self.prepare()
        backend.decoder = decoders.BPEDecoder(suffix="</w>")
        return backend

    def portable(self) -> tokenizers.Tokenizer:
        """Return the library's tokenizer without parts in Python, which could not be saved."""
        return self.backend_tokenizer

    def __getstate__(self) -> dict:
        parts = {"backend_tokenizer": self.portable().to_str(), "roles": dict(self.roles)}
        return self.__dict__ | parts

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self.backend_tokenizer = tokenizers.Tokenizer.from_str(state["backend_tokenizer"])

    def __eq__(self, other) -> bool:
        alike = type(self) is type(other) and self.vocab == other.vocab
        return alike and self.merges == other.merges and self.describe() == other.describe()

    def __hash__(self) -> int:
        return hash((type(self), len(self.vocab)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(vocab_size={self.vocab_size}, {self.describe()})"

    # -- text to ids

    def ids_of(self, texts: list[str]) -> list[list[int]]:
        """Encode texts, ids alone: the fast way."""
        encode = self.backend_tokenizer.encode_batch_fast
        return [found.ids for found in encode(texts, add_special_tokens=False)]

    def align(self, request: Request) -> list[Encoding]:
        """Encode texts or pairs with all that the library knows of each token, truncated."""
        texts, pairs, is_split, special, limit, strategy, stride = request
        backend = self.backend_tokenizer
        encode = partial(backend.encode_batch, is_pretokenized=is_split, add_special_tokens=False)
        firsts, seconds = encode(texts), encode(pairs) if pairs else [None] * len(texts)
        limit -= backend.num_special_tokens_to_add(bool(pairs)) if special else 0
        for both in zip(firsts, seconds, strict=True):
            lengths = [0 if x is None else len(x) for x in both]
            for x, n in zip(both, lengths_to_keep(*lengths, limit, strategy), strict=True):
                if x is not None and n < len(x):
                    if not 0 <= stride < max(n, 1):
                        raise ValueError(f"stride={stride}, but {n} tokens are kept; pass less")
                    x.truncate(n, stride=stride, direction=self.truncation_side)
        process = (backend.post_processor or JOIN).process
        return [process(*both, special) for both in zip(firsts, seconds, strict=True)]

    @staticmethod
    def columns(found: Encoding, types, special, offsets) -> Row:
        """Turn an encoding of the library into a row, with the columns that are wanted."""
        row = {"input_ids": found.ids}
        row |= {"token_type_ids": found.type_ids} if types else {}
        row |= {"special_tokens_mask": found.special_tokens_mask} if special else {}
        return row | ({"offset_mapping": found.offsets} if offsets else {})

    def rows_of(self, request: Request, wanted: tuple, overflowing: bool):
        """Return a row for each text, and the library's encodings as far as they were needed."""
        special = request.special and self.num_special_tokens_to_add()
        if not (request.pairs or request.is_split or overflowing or any(wanted) or special):
            cut = partial(self.cut, limit=request.limit, strategy=request.truncation)
            return [{"input_ids": cut(ids)} for ids in self.ids_of(request.texts)], None
        encodings = self.align(request)
        if not overflowing:
            return [self.columns(x, *wanted) for x in encodings], encodings
        numbered = [(i, x) for i, one in enumerate(encodings) for x in (one, *one.overflowing)]
        rows = [self.columns(x, *wanted) | {"overflow_to_sample_mapping": i} for i, x in numbered]
        return rows, [x for _, x in numbered]

    def cut(self, ids: list[int], limit: int, strategy: str) -> list[int]:
        keep, _ = lengths_to_keep(len(ids), 0, limit, strategy)
        return ids[:keep] if self.truncation_side == "right" else ids[len(ids) - keep :]

    def limit(self, max_length: int | None) -> int:
        if max_length is not None:
            return check_setting("max_length", max_length)
        return check_setting("model_max_length", self.model_max_length)

    def __call__(
        self,
        text,  # str, a list of them, of pairs of them; lists of words if is_split_into_words
        text_pair=None,  # a second text to each
        add_special_tokens: bool = True,  # those of a post-processor; GPT-1 has none
        padding: bool | str = False,  # one of PADDINGS, True is "longest"
        truncation: bool | str | None = None,  # one of TRUNCATIONS; None: if max_length is given
        max_length: int | None = None,  # in tokens; default: model_max_length
        stride: int = 0,  # tokens that an overflowing row shares with the row before
        is_split_into_words: bool = False,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,  # default: the tokenizer's
        return_tensors: str | None = None,  # "pt", "np"; None: lists
        return_token_type_ids: bool | None = None,  # 0 for the first text, 1 for the second
        return_attention_mask: bool | None = None,
        return_overflowing_tokens: bool = False,  # what truncation cuts off, as further rows
        return_special_tokens_mask: bool = False,
        return_offsets_mapping: bool = False,  # (begin, end) in the text
        return_length: bool = False,
        **options,
    ) -> BatchEncoding:
        """Encode one text, two, or many: ids and masks, (T,) or together (B, T).

        Raises TypeError for what is no text; ValueError for an unknown choice, for padding without
        a pad token, and for tensors from texts of different lengths.
        """
        warn_unknown(options)
        texts, pairs = to_texts(text, text_pair, is_split_into_words)
        padding, limit = pick("padding", padding, PADDINGS), self.limit(max_length)
        if truncation is None:  # a max_length means: truncate, unless it is there to pad to
            truncation = max_length is not None and padding != "max_length"
        truncation = pick("truncation", truncation, TRUNCATIONS)
        how = is_split_into_words, add_special_tokens, limit, truncation, stride
        request = Request(texts, pairs, *how)
        wanted = return_token_type_ids, return_special_tokens_mask, return_offsets_mapping
        rows, encodings = self.rows_of(request, wanted, return_overflowing_tokens)
        if return_attention_mask is not False:
            rows = [row | {"attention_mask": [1] * len(row["input_ids"])} for row in rows]
        rows = self.fill(rows, padding, limit, pad_to_multiple_of, padding_side)
        if return_length:
            rows = [row | {"length": len(row["input_ids"])} for row in rows]
        columns = to_columns(rows, return_tensors)
        if is_text(text, is_split_into_words) and not (return_tensors or return_overflowing_tokens):
            columns = {k: x[0] if isinstance(x[0], list) else x for k, x in columns.items()}
        lengths, side = [len(row["input_ids"]) for row in rows], padding_side or self.padding_side
        return BatchEncoding(columns, partial(self.padded, encodings, request, lengths, side))

    def padded(self, encodings, request: Request, lengths: list[int], side: str) -> list[Encoding]:
        """Return the library's encodings, as long as the rows that were returned."""
        encodings = encodings or self.align(request)
        pad = {"pad_id": self.pad_token_id or 0, "pad_token": self.pad_token or ""}
        for found, length in zip(encodings, lengths, strict=True):
            found.pad(length, direction=side, **pad)
        return encodings

    def fill(self, rows: list[Row], strategy: str, limit: int, multiple: int | None, side=None):
        """Return the rows, padded by a strategy of PADDINGS; ValueError without a pad token."""
        if strategy == "do_not_pad" or not rows or (strategy == "max_length" and limit > ENDLESS):
            return rows
        if self.pad_token is None:
            raise ValueError(
                "padding needs a pad token and GPT-1 has none; the mask hides it, so any will do: "
                "tokenizer.pad_token = tokenizer.unk_token"
            )
        side = check_setting("padding_side", side or self.padding_side)
        length = limit if strategy == "max_length" else max(len(row["input_ids"]) for row in rows)
        if multiple:
            length = -(-length // check_setting("pad_to_multiple_of", multiple)) * multiple
        return [pad_row(row, length, self.pad_token_id, side) for row in rows]

    def pad(
        self,
        encoded_inputs,  # a batch, or a list of single encodings
        padding: bool | str = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,  # default: the tokenizer's
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,  # default: what came in
        verbose: bool = True,
    ) -> BatchEncoding:
        """Pad what was encoded before, (B, T). Errors: those of `fill` and `to_columns`."""
        rows, single = to_rows(encoded_inputs, return_attention_mask is not False)
        strategy, limit = pick("padding", padding, PADDINGS), self.limit(max_length)
        rows = self.fill(rows, strategy, limit, pad_to_multiple_of, padding_side)
        columns = to_columns(rows, return_tensors or kind_of(encoded_inputs))
        return BatchEncoding({name: x[0] for name, x in columns.items()} if single else columns)

    def encode(self, text, text_pair=None, **options) -> list[int]:
        """Return the ids of a text or a pair; `options` are those of a call."""
        is_plain = isinstance(text, str) and text_pair is None and not options
        if is_plain and not self.num_special_tokens_to_add():
            return self.ids_of([replace_surrogates(text)])[0]
        return self(text, text_pair, **options).input_ids

    def tokenize(self, text, pair=None, add_special_tokens=False, **options) -> list[str]:
        """Return the tokens of a text or a pair; `options` are those of a call."""
        options["add_special_tokens"] = add_special_tokens
        return self.convert_ids_to_tokens(self.encode(text, pair, **options))

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        return self.backend_tokenizer.num_special_tokens_to_add(pair)

    def get_special_tokens_mask(
        self, token_ids_0, token_ids_1=None, already_has_special_tokens=True
    ):
        """Say of each id (T,) whether it is that of a special token: 1, or not: 0."""
        special = set(self.all_special_ids)
        return [int(x in special) for x in (*to_ids(token_ids_0), *to_ids(token_ids_1 or ()))]

    # -- ids to text

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Join tokens: a space wherever a word ends, none behind the last."""
        return self.backend_tokenizer.decoder.decode(tokens)

    clean_up_tokenization = staticmethod(clean_up)

    def decode(
        self, token_ids, skip_special_tokens=False, clean_up_tokenization_spaces=False, **options
    ) -> str | list[str]:
        """Turn ids (T,) into a lower-case text with a space between words; (B, T) into a list."""
        ids = to_ids(token_ids)
        if isinstance(ids, list) and ids and isinstance(ids[0], list):
            return [self.decode(x, skip_special_tokens, clean_up_tokenization_spaces) for x in ids]
        ids = self.known([ids] if isinstance(ids, int) else ids, skip_special_tokens)
        text = self.backend_tokenizer.decode(ids, skip_special_tokens=False)
        return clean_up(text) if clean_up_tokenization_spaces else text

    def batch_decode(self, sequences, **options) -> list[str]:
        """Turn rows of ids, (B, T), into a list of texts."""
        return [self.decode(row, **options) for row in to_ids(sequences)]

    # -- files

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,  # "tiny", a folder or a name on the hub
        text_pipeline: str | None = None,
        **options,
    ):
        """Load the tokenizer of a checkpoint.

        `options` replace settings, such as `pad_token="<pad>"` or `model_max_length=1024`; they may
        hold `HUB_OPTIONS`. Raises FileNotFoundError where there is no checkpoint, ValueError for a
        damaged file, naming it, and the errors of the class.
        """
        hub, options = split_hub_options(options)
        vocab, merges, settings = read_checkpoint(pretrained_model_name_or_path, **hub)
        stored = settings.pop("unk_token", None) or UNKNOWN
        if "unk_token" not in options:
            with naming(settings["path"]):
                check_unknown(str(stored), vocab)
        unknown = check_unknown(str(options.pop("unk_token", stored)), vocab)
        pipeline = cls.choose_pipeline(text_pipeline or settings.get("text_pipeline"))
        with naming(settings["merges_path"]):
            tokenizer = cls(vocab, merges, pipeline, unknown)
        with naming(settings["path"]):
            tokenizer.configure(settings)
        warn_unknown(options.keys() - {*ROLES, *SETTINGS, *EXTRA})
        tokenizer.configure(parse_settings(options))
        tokenizer.name_or_path = str(pretrained_model_name_or_path)
        return tokenizer

    def describe(self) -> dict:
        """Collect the settings, as `tokenizer_config.json` holds them."""
        # transformers' class rebuilds the basic pipeline; its generic one takes ours as it is
        is_basic = self.text_pipeline == "basic"
        return {
            "tokenizer_class": "OpenAIGPTTokenizer" if is_basic else "PreTrainedTokenizerFast",
            "text_pipeline": self.text_pipeline,
            **{name: getattr(self, name) for name in SETTINGS},
            **self.roles,
            "extra_special_tokens": self.extra_special_tokens,
            "added_tokens_decoder": {
                str(i): as_page(token) for i, token in sorted(self.added_tokens_decoder.items())
            },
        }

    def save_vocabulary(
        self, save_directory: str | Path, filename_prefix: str | None = None
    ) -> tuple[str, str]:
        """Write vocabulary and merges into a folder that exists; returns the two paths."""
        prefix = f"{filename_prefix}-" if filename_prefix else ""
        paths = [Path(save_directory, prefix + names[0]) for names in (VOCAB_NAMES, MERGES_NAMES)]
        with saving(Path(save_directory)):
            write_vocabulary(paths[0], self.vocab)
            write_merges(paths[1], self.merges)
        return str(paths[0]), str(paths[1])

    def writers(self) -> dict:
        """Plan the four files of a tokenizer: name -> function that writes it to a path."""
        whole = self.portable().to_str().encode()
        return {  # the last one is the first that loading looks for
            "tokenizer_config.json": json_writer(self.describe()),
            "tokenizer.json": lambda path: path.write_bytes(whole),
            MERGES_NAMES[0]: partial(write_merges, merges=self.merges),
            VOCAB_NAMES[0]: partial(write_vocabulary, vocabulary=self.vocab),
        }

    def save_pretrained(self, save_directory: str | Path, **options) -> tuple[str, ...]:
        """Write four files into a folder, for minigpt and transformers; returns their names.

        `options` are those of a model's method, without effect here.
        """
        return tuple(save_files(save_directory, self.writers()))


# -- the two tokenizers


class OriginalNormalizer:
    """OpenAI's pipeline as a normalizer of the library: words with a space between them."""

    rules = staticmethod(cache(original_normalizer))

    def normalize(self, text: tokenizers.NormalizedString) -> None:
        words = []
        for chunk in split_chunks(text.normalized):
            is_long = len(chunk) > LONG_CHUNK
            words += [self.rules().normalize_str(chunk)] if is_long else split_chunk(chunk)
        text.clear()
        text.append(" ".join(words))


class OpenAIGPTTokenizer(TokenizerBase):
    """GPT-1's tokenizer, with texts prepared in Python, exactly as OpenAI's code did it.

    `text_pipeline`: "original" (the default where ftfy and spaCy are installed) or "basic". A word
    of more than `LONG_CHUNK` characters is split by the fast tokenizer's rules.
    Source: `TextEncoder` of OpenAI's `text_utils.py`.
    """

    is_fast = False
    core = None  # the tokenizer of notebook 02, and what it must not see; made when needed

    @staticmethod
    def choose_pipeline(wanted: str | None) -> str:
        """Return the pipeline asked for; by default "original" where its libraries are installed.

        Where they are not, warns and returns "basic", or raises ImportError if it was asked for.
        """
        missing = [name for name in ("ftfy", "spacy") if not find_spec(name)]
        if missing and wanted is None:
            warn(
                "ftfy and spacy are not installed, so texts go through the basic pipeline: line "
                "breaks, curly quotes and accents are lost, and i'm is split in three, unlike the "
                "text that GPT-1 was trained on. pip install 'minigpt-notebooks[original]', or use "
                "OpenAIGPTTokenizerFast, which has its own rules"
            )
            return "basic"
        if missing and wanted == "original":
            raise ImportError(
                f"text_pipeline='original' needs {' and '.join(missing)}: "
                "pip install 'minigpt-notebooks[original]', or pass text_pipeline='basic'"
            )
        return TokenizerBase.choose_pipeline(wanted)

    def prepare(self) -> tuple[normalizers.Normalizer, pre_tokenizers.PreTokenizer]:
        normalizer, pre_tokenizer = super().prepare()
        if self.text_pipeline == "original":
            normalizer = normalizers.Normalizer.custom(OriginalNormalizer())
        return normalizer, pre_tokenizer

    def portable(self) -> tokenizers.Tokenizer:
        if self.text_pipeline == "basic":
            return self.backend_tokenizer
        return self.rebuild(super().prepare())

    def rebuild(self, steps: tuple) -> tokenizers.Tokenizer:
        """Make the library's tokenizer anew with other steps from a text to words."""
        old = self.backend_tokenizer
        new = self.assemble(old.model)
        new.normalizer, new.pre_tokenizer = steps
        if old.post_processor:
            new.post_processor = old.post_processor
        new.add_tokens([token for _, token in sorted(old.get_added_tokens_decoder().items())])
        return new

    def __getstate__(self) -> dict:
        return super().__getstate__() | {"core": None}

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        self.backend_tokenizer = self.rebuild(self.prepare())

    def add_tokens(self, new_tokens, special_tokens: bool = False) -> int:
        self.core = None
        return super().add_tokens(new_tokens, special_tokens)

    def make_core(self) -> tuple[Tokenizer, re.Pattern]:
        """Return the tokenizer of notebook 02, and a pattern of texts with added tokens."""
        added = list(self.added_tokens_decoder.values())
        longest_first = sorted((x.content for x in added), key=len, reverse=True)
        pattern = "|".join(map(re.escape, longest_first)) or "(?!)"  # that is never found
        if any(token.normalized for token in added):
            pattern = ""  # these show in prepared texts only: all go through the library
        return Tokenizer(self.vocab, self.merges, self.unk_token), re.compile(pattern)

    def ids_of(self, texts: list[str]) -> list[list[int]]:
        if self.text_pipeline == "basic":
            return super().ids_of(texts)
        self.core = core, added = self.core or self.make_core()
        encode, found = partial(self.backend_tokenizer.encode, add_special_tokens=False), []
        for text in texts:
            is_long = len(text) > LONG_CHUNK and max(map(len, text.split()), default=0) > LONG_CHUNK
            found.append(encode(text).ids if is_long or added.search(text) else core.encode(text))
        return found

    def rows_of(self, request: Request, wanted: tuple, overflowing: bool):
        if wanted[2] and self.text_pipeline == "original":
            raise NotImplementedError(
                "return_offsets_mapping: this tokenizer does not know where a token stood; use "
                "OpenAIGPTTokenizerFast"
            )
        return super().rows_of(request, wanted, overflowing)


class OpenAIGPTTokenizerFast(TokenizerBase):
    """GPT-1's tokenizer, with texts prepared by rules in Rust; it encodes in parallel.

    `text_pipeline`: "original" (the default, needs neither ftfy nor spaCy) or "basic".
    """
