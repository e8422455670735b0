"""Short programs of users of transformers about texts; `programs.py` runs them.

Each is a function of the library, a folder with a checkpoint, and an empty folder.
"""

import json
import os

TEXT = "the old man"


def flat(*results) -> list:
    """Return the numbers and texts of any nesting, one after the other."""
    from torch.utils._pytree import tree_leaves

    found = []
    for x in tree_leaves(list(results)):
        found += tree_leaves(x.tolist()) if hasattr(x, "tolist") else [x]
    return [x if isinstance(x, str | int | float | None) else repr(x) for x in found]


def load(lib, tiny):
    model, tokenizer = lib.AutoModelForCausalLM, lib.AutoTokenizer
    return model.from_pretrained(tiny), tokenizer.from_pretrained(tiny, pad_token="<unk>")


def inputs_of(lib, tiny):
    model, tokenizer = load(lib, tiny)
    return model, tokenizer, tokenizer(TEXT, return_tensors="pt")


# -- loading and saving


def arguments_that_change_nothing(lib, tiny, out):
    options = {"low_cpu_mem_usage": True, "use_safetensors": True, "trust_remote_code": True}
    options |= {"force_download": False, "local_files_only": True, "torch_dtype": "auto"}
    options |= {"device_map": {"": "cpu"}, "attn_implementation": "eager", "revision": "main"}
    options |= {"offload_folder": out, "max_memory": {"cpu": "10GB"}, "cache_dir": out}
    model = lib.AutoModelForCausalLM.from_pretrained(tiny, **options)
    model.save_pretrained(out, safe_serialization=True, push_to_hub=False, token=None)
    tokenizer = lib.AutoTokenizer.from_pretrained(tiny, use_fast=True, foo=1, legacy=False)
    paths = tokenizer.save_pretrained(out, legacy_format=False)
    facts = [str(model.dtype), all(os.path.exists(path) for path in paths)]
    return [*facts, *sorted(name for name in os.listdir(out) if "config" in name)]


def a_config_or_weights_in_place_of_files(lib, tiny, out):
    import torch

    classifier, config = lib.AutoModelForSequenceClassification, lib.AutoConfig
    model = lib.OpenAIGPTLMHeadModel.from_pretrained(tiny)
    weights = {name: x * 0.5 for name, x in model.state_dict().items()}
    given = {"config": config.from_pretrained(tiny), "state_dict": weights}
    half = lib.OpenAIGPTLMHeadModel.from_pretrained(None, **given)
    three = classifier.from_pretrained(tiny, config=config.from_pretrained(tiny, num_labels=3))
    settings = lib.GenerationConfig(max_new_tokens=3)
    lib.AutoModelForCausalLM.from_pretrained(tiny).save_pretrained(out + "/sub")
    short = {"subfolder": "sub", "generation_config": settings, "config": tiny}
    short = lib.AutoModelForCausalLM.from_pretrained(out, **short)
    ids = torch.tensor([[5, 6]])
    return flat(half(ids).logits[0, 0, :4], three.score.weight.shape[0], short.generate(ids))


# -- generation


def settings_of_generate(lib, tiny, out):
    model, tokenizer, inputs = inputs_of(lib, tiny)
    bad, end = tokenizer(["and", "his eyes"]).input_ids, tokenizer(".").input_ids
    ends = {"eos_token_id": end, "pad_token_id": 0, "max_new_tokens": 16}
    return flat(
        model.generate(**inputs, bad_words_ids=bad, max_new_tokens=12, num_beams=3),
        model.generate(**inputs, **ends, min_length=14, renormalize_logits=True),
        model.generate(**inputs, **ends, begin_suppress_tokens=[100, 107], suppress_tokens=[5]),
        model.generate(**inputs, max_new_tokens=9, sequence_bias={(5,): 3.0, (194, 553): -2.0}),
        model.generate(**inputs, max_new_tokens=9, forced_eos_token_id=7, top_k=None, top_p=None),
        model.generate(**inputs, max_time=0.0, disable_compile=True, num_beam_groups=1),
        model.generate(inputs=inputs.input_ids, token_type_ids=inputs.input_ids, max_length=9),
        model.generate(**inputs, prefix_allowed_tokens_fn=lambda i, ids: [5, 6], max_new_tokens=3),
    )


def the_same_seed_draws_the_same(lib, tiny, out):
    model, _, inputs = inputs_of(lib, tiny)
    options = [{"min_p": 0.1}, {"typical_p": 0.8, "top_k": 0}, {"epsilon_cutoff": 0.02}]
    options += [{"eta_cutoff": 0.02}, {"num_beams": 3, "top_k": 20, "num_return_sequences": 2}]
    found = []
    for some in options:
        lib.set_seed(3)
        found.append(model.generate(**inputs, do_sample=True, max_new_tokens=9, **some))
    return flat(found)


def results_of_generate(lib, tiny, out):
    model, _, inputs = inputs_of(lib, tiny)
    asked = {"output_scores": True, "output_logits": True, "max_new_tokens": 4}
    asked |= {"return_dict_in_generate": True, "repetition_penalty": 1.5, "do_sample": False}
    one = model.generate(**inputs, **asked)
    many = model.generate(**inputs, **asked, num_beams=3, num_return_sequences=3)
    rows = many.sequences, many.scores, many.beam_indices
    deep = model.generate(**inputs, **asked, output_hidden_states=True)
    return flat(
        [list(one.keys()), list(many.keys()), one.logits[2][0, :4], one.scores[2][0, :4]],
        model.compute_transition_scores(one.sequences, one.scores, normalize_logits=True),
        [model.compute_transition_scores(*rows), many.sequences_scores],
        [len(deep.hidden_states), deep.hidden_states[3][-1].shape, deep[0]],
    )


def a_generation_config(lib, tiny, out):
    model, _, inputs = inputs_of(lib, tiny)
    config = lib.GenerationConfig(num_beams=2, max_new_tokens=5, early_stopping=True)
    rest = config.update(pad_token_id=0, bar=1)
    config.save_pretrained(out, "own.json")
    again, unused = lib.GenerationConfig.from_pretrained(
        out, config_file_name="own.json", repetition_penalty=1.2, return_unused_kwargs=True
    )
    model.generation_config.max_length = 9
    model.save_pretrained(out)
    saved = lib.AutoModelForCausalLM.from_pretrained(out).generation_config
    facts = [rest, unused, again.repetition_penalty, again.top_k, again.early_stopping]
    facts += [config == again, str(config).startswith("GenerationConfig {"), saved.max_length]
    facts += [json.loads(config.to_json_string())["num_beams"], config.to_dict()["top_p"]]
    return flat(facts, model.generate(inputs.input_ids, again), model.generate(**inputs))


def objects_of_transformers_in_generate(lib, tiny, out):
    import transformers as t

    model, tokenizer, inputs = inputs_of(lib, tiny)

    class Dot(lib.StoppingCriteria):
        def __call__(self, input_ids, scores, **options):
            return bool((input_ids[:, -1] == tokenizer.convert_tokens_to_ids(".</w>")).any())

    class Favour(lib.LogitsProcessor):
        def __call__(self, input_ids, scores):
            scores[:, 7] += 4
            return scores

    hooks = {"stopping_criteria": lib.StoppingCriteriaList([Dot()])}
    bent = {"logits_processor": lib.LogitsProcessorList([Favour()])}
    minimum = t.MinNewTokensLengthLogitsProcessor(3, 6, 100)
    theirs = {"logits_processor": t.LogitsProcessorList([minimum])}
    config = t.GenerationConfig(max_new_tokens=6, repetition_penalty=1.2, num_beams=2)
    return flat(
        model.generate(**inputs, max_new_tokens=20, **hooks),
        model.generate(**inputs, max_new_tokens=5, **bent),
        model.generate(**inputs, max_new_tokens=9, eos_token_id=100, pad_token_id=0, **theirs),
        model.generate(inputs.input_ids, config),
        model.generate(**inputs, generation_config=config, max_new_tokens=3),
    )


def padded_prompts(lib, tiny, out):
    model, tokenizer = load(lib, tiny)
    tokenizer.padding_side = "left"
    inputs = tokenizer(["the old man walked", "a dog"], padding=True, return_tensors="pt")
    plan = {"max_new_tokens": 6, "pad_token_id": tokenizer.pad_token_id}
    inferred = model.generate(inputs.input_ids, **plan)  # the mask follows from the pad token
    return flat(
        model.generate(**inputs, **plan), inferred, model.generate(**inputs, **plan, num_beams=2)
    )


# -- tokenizers


def what_a_tokenizer_call_knows(lib, tiny, out):
    _, tokenizer = load(lib, tiny)
    one, two = tokenizer("the hamburgers, isn't it?", "a second text"), tokenizer(["a dog", TEXT])
    maps = [one.char_to_token(5), one.char_to_word(6), one.token_to_chars(1), one.word_ids()]
    maps += [one.token_to_word(2), one.word_to_tokens(1), one.word_to_chars(1), one.tokens()]
    maps += [two.char_to_token(1, 4), two.token_to_chars(1, 1).start, two.word_to_tokens(0, 1)]
    maps += [one.sequence_ids(), one[0].ids, [x.tokens for x in two[0:2]], one.is_fast]
    two = tokenizer([TEXT, "a dog and"]).convert_to_tensors("pt")
    made = lib.BatchEncoding({"ids": [1, 2]}, tensor_type="pt", prepend_batch_axis=True)
    return flat(maps, one.n_sequences, two.input_ids, made["ids"].shape)


def windows_over_a_long_text(lib, tiny, out):
    _, tokenizer = load(lib, tiny)
    long = "the old man walked home and sat down by the fire . " * 2
    how = {"max_length": 12, "truncation": "only_second", "stride": 4, "padding": "max_length"}
    how |= {"return_overflowing_tokens": True, "return_offsets_mapping": True}
    found = tokenizer(["who ?", "where ?"], [long, "at home"], **how)
    rows = range(len(found["input_ids"]))
    return flat(list(found.items()), [found.sequence_ids(row) for row in rows])


def tokenizers_from_files(lib, tiny, out):
    fast, slow = lib.OpenAIGPTTokenizerFast, lib.OpenAIGPTTokenizer
    backend = lib.AutoTokenizer.from_pretrained(tiny).backend_tokenizer
    made = [
        fast(tokenizer_file=tiny + "/tokenizer.json"),
        fast(tokenizer_object=backend, pad_token="<unk>"),
        slow(vocab=tiny + "/vocab.json", merges=tiny + "/merges.txt"),
        slow.from_pretrained(tiny, do_lower_case=True, unk_token="<unk>"),
        slow({"lo": 0, "w</w>": 1, "<unk>": 2, "low</w>": 3, "l": 4, "o": 5}, [("lo", "w</w>")]),
    ]
    return flat([[one("The old man low").input_ids, len(one), one.pad_token_id] for one in made])


def tokens_that_are_added(lib, tiny, out):
    kinds = {
        "additional_special_tokens": ["<a>", "<b>"],
        "bos_token": "<s>",
        "padding_side": "left",
    }
    tokenizer = lib.AutoTokenizer.from_pretrained(tiny, model_max_length=6, **kinds)
    new = tokenizer.add_special_tokens({"pad_token": "<pad>"}), tokenizer.add_tokens(["zebra9"])
    tokenizer.save_pretrained(out)
    again = lib.AutoTokenizer.from_pretrained(out)
    rows = again(["<a> zebra9 is the old man", "a<s>"], padding=True, truncation=True)["input_ids"]
    again.pad_token = "[PAD]"  # not a token
    texts = again.batch_decode(rows, skip_special_tokens=True)
    return flat(new, rows, texts, again.pad_token, again.pad_token_id, again.bos_token_id)


# -- pipelines


def a_pipeline_that_writes(lib, tiny, out):
    options = {"device_map": "auto", "trust_remote_code": True, "torch_dtype": "float32"}
    pipe = lib.pipeline("text-generation", model=tiny, do_sample=False, **options)
    config = lib.GenerationConfig(max_new_tokens=3, do_sample=False)
    single = lib.TextGenerationPipeline(model=pipe.model, tokenizer=pipe.tokenizer)
    return flat(
        single(TEXT, max_new_tokens=2, do_sample=False),
        pipe(TEXT, max_new_tokens=6),
        pipe([TEXT, "She said that"], max_new_tokens=5, return_full_text=False),
        pipe(TEXT, max_new_tokens=3, return_tensors=True),
        pipe("old man", prefix="the ", max_new_tokens=3),
        pipe(f"{TEXT} " * 200, handle_long_generation="hole", max_new_tokens=4),
        pipe(f"{TEXT} " * 5, truncation=True, max_length=9, max_new_tokens=3),
        pipe(TEXT, generation_config=config),
        [lib.set_seed(4), pipe(TEXT, do_sample=True, max_length=9, num_return_sequences=2)],
    )


def a_pipeline_that_classifies(lib, tiny, out):
    import torch

    names = {"id2label": {0: "no", 1: "yes", 2: "so"}, "label2id": {"no": 0, "yes": 1, "so": 2}}
    model = lib.AutoModelForSequenceClassification.from_pretrained(tiny, **names)
    model.score.weight.data = torch.linspace(-1, 1, model.score.weight.numel()).view(3, -1)
    model.save_pretrained(out)
    lib.AutoTokenizer.from_pretrained(tiny).save_pretrained(out)
    pipe = lib.pipeline("text-classification", model=out, framework="pt", truncation=True)
    single = lib.TextClassificationPipeline(model=pipe.model, tokenizer=pipe.tokenizer, top_k=2)
    features = lib.pipeline("feature-extraction", model=tiny, tokenizer=tiny)
    cut = {"tokenize_kwargs": {"truncation": True, "max_length": 2}}
    return flat(
        [single(TEXT), pipe(TEXT), pipe(TEXT, top_k=2), pipe([TEXT, f"{TEXT} " * 300], top_k=None)],
        pipe({"text": TEXT, "text_pair": "a dog"}, function_to_apply="sigmoid"),
        [features(TEXT, return_tensors=True).shape, features(TEXT, **cut)[0][1][:3]],
    )


PROGRAMS = {
    name: value
    for name, value in list(globals().items())
    if getattr(value, "__module__", None) == __name__ and name not in ("flat", "load", "inputs_of")
}
