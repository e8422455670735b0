"""What the two tokenizers share: the interface of transformers over the library `tokenizers`."""

from functools import partial
from itertools import compress
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, Encoding, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing

from minigpt.fast import warn_caller

from ..bpe import UNKNOWN, Pair, write_merges, write_vocabulary
from . import batch_encoding as batches
from . import tokenizer_files as files
from .batch_encoding import BatchEncoding, to_ids
from .files import json_writer, naming, save_files, split_hub_options
from .tokenizer_files import EXTRA, ROLES, SETTINGS, check, to_token
from .tokenizer_rules import original_normalizer, split_at_spaces

ENDLESS = 10**18  # tokens; such a model_max_length means, as in transformers, that there is none
JOIN = TemplateProcessing(single="$A:0", pair="$A:0 $B:1", special_tokens=[])
COLUMNS = {  # what a call may return beside ids, and the name that the library has for it
    "token_type_ids": "type_ids",
    "special_tokens_mask": "special_tokens_mask",
    "offset_mapping": "offsets",
}
STRATEGIES = {True: "longest_first", False: None, "do_not_truncate": None}
SPACED = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")


def warn_unused(names) -> None:
    """Scripts pass many options to tokenizers; a typing error is told, and stops none of them."""
    if unused := sorted(set(names) - {"verbose"}):
        warn_caller(f"options without effect on a tokenizer: {', '.join(unused)}")


def clean_up(text: str) -> str:
    """Remove the spaces before punctuation and contractions, as transformers does."""
    for spaced in SPACED:
        text = text.replace(spaced, spaced.strip())
    return text


def cut_pair(one: list[int], other: list[int], limit: int, by: str, left: bool):
    """Join the ids of two texts, at most `limit`, as the library does; None where it refuses."""
    n, m = len(one), len(other)
    if (over := n + m - limit) <= 0:
        return one + other
    if by == "longest_first":
        short = min(n, m, limit // 2)
        n, m = (short, limit - short) if n <= m else (limit - short, short)
    elif by == "only_first" and n > over:
        n -= over
    elif by == "only_second" and m > over:
        m -= over
    else:
        return None
    return one[len(one) - n :] + other[len(other) - m :] if left else one[:n] + other[:m]


class TokenizerBase:
    """All that the two tokenizers share.

    `vocab` maps the tokens of the checkpoint to ids, `roles` names like `"pad_token"` to tokens;
    `backend_tokenizer` is the library's tokenizer, which knows the added tokens too.
    """

    is_fast = True
    model_input_names = ["input_ids", "attention_mask"]
    padding_side, truncation_side = "right", "right"
    model_max_length = 512  # the positions of GPT-1
    name_or_path = ""  # the checkpoint that it was loaded from
    do_lower_case = True
    steps = {  # pipeline -> what makes the library's two steps from a text to words
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
        """Raises ValueError for an unknown pipeline or a vocabulary without `unk_token`."""
        vocab, merges = options.pop("vocab_file", vocab), options.pop("merges_file", merges)
        unknown = unk_token if isinstance(unk_token, str) else to_token(unk_token).content
        if isinstance(vocab, str | Path):
            vocab = files.read_json(Path(vocab))
        if isinstance(merges, str | Path):
            merges = files.read_checked_merges(Path(merges))
        self.vocab = {unknown: 0} if vocab is None else vocab
        self.merges, self.roles = [tuple(pair) for pair in merges or ()], {"unk_token": unknown}
        self.text_pipeline = self.choose_pipeline(text_pipeline)
        if unknown not in self.vocab:
            raise ValueError(f"the vocabulary lacks {unknown!r}; name its unk_token")
        if missing := set(range(len(self.vocab))) - set(self.vocab.values()):
            wrong = f"{len(self.vocab)} tokens, but none has the id {min(missing)}"
            raise ValueError(f"the vocabulary has {wrong}; copy it again")
        suffix = {"unk_token": unknown, "end_of_word_suffix": "</w>"}
        backend = tokenizers.Tokenizer(models.BPE(self.vocab, self.merges, **suffix))
        normalizer, pre_tokenizer = self.steps[self.text_pipeline]
        backend.normalizer, backend.pre_tokenizer = normalizer(), pre_tokenizer()
        backend.decoder, self.backend_tokenizer = decoders.BPEDecoder(suffix="</w>"), backend
        if options or self.text_pipeline == "basic":
            self.configure(options)

    def configure(self, options: dict) -> None:
        """Take over added and special tokens, sides and length; ValueError for wrong ones."""
        roles = {name: to_token(options[name], True) for name in ROLES if options.get(name)}
        extra = next((options[name] for name in EXTRA if options.get(name)), [])
        if not isinstance(extra, list | tuple):
            raise TypeError(f"extra_special_tokens is {extra!r:.80}, not a list")
        special = [*roles.values(), *(to_token(token, True) for token in extra)]
        flags = {token.content: token for token in special}
        if self.text_pipeline == "basic":  # as transformers: found in a text, too
            self.backend_tokenizer.add_special_tokens([self.unk_token])
        added = {int(i): x for i, x in options.get("added_tokens_decoder", {}).items()}
        for i, value in sorted(added.items()):
            token = to_token(flags.get(value, value) if isinstance(value, str) else value)
            self.add_tokens(token)
            if self.convert_tokens_to_ids(token.content) != i:
                way = f"does not follow {len(self.vocab)} tokens; copy all files again"
                raise ValueError(f"{token.content!r} has the id {i}, which {way}")
        self.add_tokens([x for x in special if x.content not in self.added_tokens_encoder])
        for name, token in roles.items():
            self.set_role(name, token)
        for name in SETTINGS:
            if name in options:
                setattr(self, name, check(name, options[name]))
        warn_unused(options.keys() - {*ROLES, *EXTRA, *SETTINGS, "added_tokens_decoder"})

    @staticmethod
    def choose_pipeline(wanted: str | None) -> str:
        return check("text_pipeline", wanted or "original")

    def __reduce__(self):  # the library copies and saves no steps in Python
        backend = self.backend_tokenizer
        parts = self.vocab, self.merges, self.describe(), backend.post_processor
        return remake, (type(self), self.name_or_path, *parts)

    # -- tokens and ids

    def __len__(self) -> int:
        return self.backend_tokenizer.get_vocab_size()

    vocab_size = property(lambda self: len(self.vocab))  # without what was added
    added_tokens_decoder = property(lambda self: self.backend_tokenizer.get_added_tokens_decoder())
    special_tokens_map = property(lambda self: dict(self.roles))
    all_special_tokens = property(lambda self: self.convert_ids_to_tokens(self.all_special_ids))

    @property
    def all_special_ids(self) -> list[int]:
        added = [i for i, token in self.added_tokens_decoder.items() if token.special]
        return sorted({*added, *map(self.backend_tokenizer.token_to_id, self.roles.values())})

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
        """Give a role to a token or id, which is found in texts from now on; None: to none.

        Raises ValueError for a token without an id, and for another `unk_token`.
        """
        token = self.convert_ids_to_tokens(token) if isinstance(token, int) else token
        token = None if token is None else to_token(token).content
        if name == "unk_token" and token != self.unk_token:
            raise ValueError(f"unk_token is {self.unk_token!r}; to load another, pass unk_token=")
        if token is None:
            self.roles.pop(name, None)
            return
        if token not in self.vocab and token not in self.added_tokens_encoder:
            add = f"tokenizer.add_special_tokens({{{name!r}: {token!r}}})"
            raise ValueError(f"{name}={token!r} is not in the vocabulary; add it: {add}")
        known = self.added_tokens_decoder.get(self.convert_tokens_to_ids(token), token)
        self.add_tokens(known, special_tokens=True)  # one that was added keeps how it is found
        self.roles[name] = token

    def add_tokens(self, new_tokens, special_tokens: bool = False) -> int:
        """Add tokens, strings or AddedTokens, that are never split; returns how many are new.

        The model's embedding needs a row for each: `len(tokenizer)` rows. Raises ValueError for a
        token that no text can hold, and for a special token that is a part of words.
        """
        new_tokens = new_tokens if isinstance(new_tokens, list | tuple) else [new_tokens]
        tokens = [to_token(token, special_tokens) for token in new_tokens]
        tokens = [token for token in tokens if token.content != self.unk_token]
        known, normalizer = self.added_tokens_encoder, self.backend_tokenizer.normalizer
        for token in tokens:
            text = token.content
            left = normalizer.normalize_str(text) if token.normalized else text
            if not left or token.lstrip and text.isspace():  # the library would crash
                raise ValueError(f"{text!r} cannot be added: no text can hold it")
            if token.special and text.isalnum() and text in self.vocab and text not in known:
                way = f"take a new one, such as {f'<{text}>'!r}"
                raise ValueError(f"the special token {text!r} would cut words that hold it; {way}")
        self.backend_tokenizer.add_tokens(tokens)
        return len(self.added_tokens_decoder) - len(known)

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
        found = self.backend_tokenizer.token_to_id(batches.clean(tokens))
        return self.vocab[self.unk_token] if found is None else found

    def convert_ids_to_tokens(self, ids, skip_special_tokens: bool = False) -> str | list[str]:
        """Look up ids; an added token comes back as it was added.

        Raises ValueError, naming it, for an id that does not exist.
        """
        ids, size = to_ids(ids), self.backend_tokenizer.get_vocab_size()
        if isinstance(ids, int):
            return self.convert_ids_to_tokens([ids])[0]
        if wrong := [x for x in ids if not 0 <= x < size]:
            raise ValueError(f"id {wrong[0]}, but this tokenizer has ids 0 to {size - 1}")
        added, find = self.added_tokens_decoder, self.backend_tokenizer.id_to_token
        skipped = set(self.all_special_ids) if skip_special_tokens else ()
        return [added[i].content if i in added else find(i) for i in ids if i not in skipped]

    # -- text to ids

    def quick_ids(self, texts: list[str]) -> list[list[int]]:
        """Encode texts, ids alone: the fast way."""
        encode = self.backend_tokenizer.encode_batch_fast
        return [found.ids for found in encode(texts, add_special_tokens=False)]

    def align(self, texts, pairs, is_split, special, truncation, limit, stride) -> list[Encoding]:
        """Encode texts or pairs with all that the library knows of each token, truncated.

        Raises ValueError where the library refuses them.
        """
        last = tokenizers.Tokenizer(models.BPE())  # its settings are this call's alone
        last.post_processor = self.backend_tokenizer.post_processor or JOIN
        encode = partial(self.backend_tokenizer.encode_batch, is_pretokenized=is_split)
        try:
            if truncation:
                room = limit - special * last.num_special_tokens_to_add(bool(pairs))
                if not 0 <= stride < room:
                    raise ValueError(f"stride={stride}, but {room} tokens are kept; pass less")
                how = {"strategy": truncation, "direction": self.truncation_side}
                last.enable_truncation(min(limit, ENDLESS), stride=stride, **how)
            firsts = encode(texts, add_special_tokens=False)
            seconds = encode(pairs, add_special_tokens=False) if pairs else [None] * len(texts)
            both = zip(firsts, seconds, strict=True)
            return [last.post_process(one, other, special) for one, other in both]
        except Exception as error:
            asked = f"truncation={truncation!r}, max_length={limit}"
            raise ValueError(f"cannot encode {texts!r:.80} with {asked}: {error}") from error

    def rows_of(self, how: tuple, wanted: tuple, overflows: bool) -> tuple[list[dict], list]:
        """Return a row for each text, and the library's encodings if they were needed.

        `how`: the arguments of `align`; `wanted`: which of `COLUMNS` a row holds, too.
        """
        names = list(compress(COLUMNS, wanted))
        texts, pairs, is_split, special, truncation, limit, _ = how
        if "offset_mapping" in names and not self.is_fast and self.text_pipeline == "original":
            raise NotImplementedError("no offsets are known here; use OpenAIGPTTokenizerFast")
        special = special and self.backend_tokenizer.post_processor
        if not (is_split or special or overflows or names):
            seconds = self.quick_ids(pairs) if pairs else [[]] * len(texts)
            both = zip(self.quick_ids(texts), seconds, strict=True)
            if not truncation:
                return [{"input_ids": one + other} for one, other in both], []
            cut = partial(cut_pair, limit=limit, by=truncation, left=self.truncation_side == "left")
            if None not in (rows := [cut(*ids) for ids in both]):  # else the library says why
                return [{"input_ids": ids} for ids in rows], []
        rows, found = [], []
        for i, first in enumerate(self.align(*how)):
            for one in (first, *(first.overflowing if overflows else ())):
                row = {"input_ids": one.ids} | {x: getattr(one, COLUMNS[x]) for x in names}
                rows.append(row | ({"overflow_to_sample_mapping": i} if overflows else {}))
                found.append(one)
        return rows, found

    def __call__(
        self,
        text,  # str, a list of them, of pairs of them; lists of words if is_split_into_words
        text_pair=None,  # a second text to each
        add_special_tokens: bool = True,  # those of a post-processor; GPT-1 has none
        padding: bool | str = False,  # True is "longest"; "max_length"
        truncation: bool | str | None = None,  # True: "longest_first"; None: if max_length is given
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
        warn_unused(options)
        if truncation is None:  # a max_length means: truncate, unless it is there to pad to
            truncation = max_length is not None and padding != "max_length"
        strategy = STRATEGIES.get(check("truncation", truncation), truncation)
        limit = check("max_length", self.model_max_length if max_length is None else max_length)
        wanted = return_token_type_ids, return_special_tokens_mask, return_offsets_mapping
        texts, pairs, single = batches.to_texts(text, text_pair, is_split_into_words)
        how = texts, pairs, is_split_into_words, add_special_tokens, strategy, limit, stride
        rows, found = self.rows_of(how, wanted, return_overflowing_tokens)
        width = limit, pad_to_multiple_of, padding_side
        rows = self.fill(rows, return_attention_mask, padding, *width)
        if return_length:
            rows = [row | {"length": len(row["input_ids"])} for row in rows]
        columns = batches.to_columns(rows, check("return_tensors", return_tensors))
        if single and not (return_tensors or return_overflowing_tokens):
            columns = {k: x[0] if isinstance(x[0], list) else x for k, x in columns.items()}
        batch = BatchEncoding(columns)
        batch.make = partial(self.padded, found, how, rows, padding_side)
        return batch

    def padded(self, found: list[Encoding], how: tuple, rows: list[dict], side: str | None):
        """Return the library's encodings, as long as the rows that were returned."""
        found = found or self.align(*how)
        pad = {"pad_id": self.pad_token_id or 0, "pad_token": self.pad_token or ""}
        for one, row in zip(found, rows, strict=True):
            one.pad(len(row["input_ids"]), direction=side or self.padding_side, **pad)
        return found

    def fill(self, rows: list[dict], mask, padding, limit: int, multiple, side) -> list[dict]:
        """Return the rows, with a mask and padded. Raises ValueError without a pad token."""
        if mask is not False:
            for row in rows:
                row.setdefault("attention_mask", [1] * len(row["input_ids"]))
        endless = padding == "max_length" and limit >= ENDLESS
        if check("padding", padding) in (False, None, "do_not_pad") or endless or not rows:
            return rows
        if self.pad_token is None:
            raise ValueError(
                "padding needs a pad token and GPT-1 has none; the mask hides it, so any will do: "
                "tokenizer.pad_token = tokenizer.unk_token"
            )
        side = check("padding_side", side or self.padding_side)
        multiple = check("pad_to_multiple_of", multiple or 1)
        longest = max(len(row["input_ids"]) for row in rows)
        length = -(-(limit if padding == "max_length" else longest) // multiple) * multiple
        return [batches.pad_row(row, length, self.pad_token_id, side) for row in rows]

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
        rows, single, kind = batches.to_rows(encoded_inputs)
        limit = check("max_length", self.model_max_length if max_length is None else max_length)
        width = padding, limit, pad_to_multiple_of, padding_side
        rows = self.fill(rows, return_attention_mask, *width)
        columns = batches.to_columns(rows, check("return_tensors", return_tensors or kind))
        return BatchEncoding({name: x[0] for name, x in columns.items()} if single else columns)

    def encode(self, text, text_pair=None, **options) -> list[int]:
        """Return the ids of a text or a pair; `options` are those of a call."""
        return self(text, text_pair, **options)["input_ids"]

    def tokenize(self, text, pair=None, add_special_tokens=False, **options) -> list[str]:
        """Return the tokens of a text or a pair; `options` are those of a call."""
        options["add_special_tokens"] = add_special_tokens
        return self.convert_ids_to_tokens(self.encode(text, pair, **options))

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        return self.backend_tokenizer.num_special_tokens_to_add(pair)

    def get_special_tokens_mask(
        self, token_ids_0, token_ids_1=None, already_has_special_tokens=True
    ) -> list[int]:
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
        ids = [ids] if isinstance(ids, int) else ids
        tokens = self.convert_ids_to_tokens(ids, skip_special_tokens)
        text = self.backend_tokenizer.decoder.decode(tokens)
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
        name = str(pretrained_model_name_or_path)
        hub, options = split_hub_options(options)
        vocab, merges, settings, source = files.read_checkpoint(name, **hub)
        post_processor = settings.pop("post_processor")
        text_pipeline = cls.choose_pipeline(text_pipeline or settings.get("text_pipeline"))
        settings |= options | {"text_pipeline": text_pipeline}
        with naming(source):
            tokenizer = cls(vocab, merges, **settings)
        tokenizer.name_or_path = name
        tokenizer.backend_tokenizer.post_processor = post_processor
        return tokenizer

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
        prefix = f"{filename_prefix}-" if filename_prefix else ""
        vocab = str(Path(save_directory, prefix + files.VOCAB_NAMES[0]))
        merges = str(Path(save_directory, prefix + files.MERGES_NAMES[0]))
        write_vocabulary(vocab, self.vocab)
        write_merges(merges, self.merges)
        return vocab, merges

    def writers(self) -> dict:
        """Plan the four files of a tokenizer: name -> function that writes it to a path."""
        make, (_, _, *parts) = self.__reduce__()
        portable = make(TokenizerBase, "", *parts)  # the library saves no steps in Python
        whole = portable.backend_tokenizer.to_str().encode()
        # transformers' class rebuilds the basic pipeline; its generic one takes ours as it is
        is_basic = self.text_pipeline == "basic"
        kind = "OpenAIGPTTokenizer" if is_basic else "PreTrainedTokenizerFast"
        return {  # the last one is the first that loading looks for
            "tokenizer_config.json": json_writer({"tokenizer_class": kind} | self.describe()),
            "tokenizer.json": lambda path: path.write_bytes(whole),
            files.MERGES_NAMES[0]: partial(write_merges, merges=self.merges),
            files.VOCAB_NAMES[0]: partial(write_vocabulary, vocabulary=self.vocab),
        }

    def save_pretrained(self, save_directory: str | Path, **options) -> tuple[str, ...]:
        """Write four files into a folder, for minigpt and transformers; returns their names.

        `options` are those of a model's method, without effect here.
        """
        return tuple(save_files(save_directory, self.writers()))


def remake(kind: type, name: str, vocab, merges, settings: dict, post_processor) -> TokenizerBase:
    """Make a tokenizer of a class again from what another one holds."""
    made = kind(vocab, merges, **settings)
    made.name_or_path, made.backend_tokenizer.post_processor = name, post_processor
    return made


for name in ROLES:  # pad_token and pad_token_id, and so on; "" has no id
    token = property(lambda t, n=name: t.roles.get(n), lambda t, x, n=name: t.set_role(n, x))
    find = property(lambda t, n=name: t.backend_tokenizer.token_to_id(t.roles.get(n, "")))
    setattr(TokenizerBase, name, token)
    setattr(TokenizerBase, f"{name}_id", find.setter(token.fset))
