"""Short programs of users of transformers, functions of the library; `test_programs.py` compares.

    python -m tests.parity.programs FIRST LIBRARY TINY RESULTS.json

runs all of them with one library, after importing FIRST; TINY is a folder with a checkpoint.
"""

import json
import sys
import tempfile
from importlib import import_module
from pathlib import Path

from tests.parity import text_programs

PROGRAMS = dict(text_programs.PROGRAMS)
QUIET = {"use_cpu": True, "report_to": [], "seed": 0, "logging_steps": 1, "save_strategy": "no"}
NO_DROPOUT = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
TEXTS = ["the old man walked home and sat down .", "she had a dog .", "it was late .", "no ."] * 2


def program(run):
    PROGRAMS[run.__name__] = run
    return run


def tokenizer(lib, tiny):
    found = lib.AutoTokenizer.from_pretrained(tiny)
    found.pad_token = found.unk_token
    return found


def language_model(lib, tiny):
    return lib.AutoModelForCausalLM.from_pretrained(tiny, **NO_DROPOUT)


def make_trainer(lib, tiny, out, model=None, steps=3, **settings):
    import transformers

    tok = tokenizer(lib, tiny)
    collator = transformers.DataCollatorForLanguageModeling(tok, mlm=False)
    settings = QUIET | {"max_steps": steps, "per_device_train_batch_size": 2} | settings
    data, args = [tok(text) for text in TEXTS], transformers.TrainingArguments(out, **settings)
    model = language_model(lib, tiny) if model is None else model
    data = {"train_dataset": data, "eval_dataset": data, "data_collator": collator}
    return transformers.Trainer(model=model, args=args, **data)


def losses(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def train(lib, tiny, out, **settings):
    trainer = make_trainer(lib, tiny, out, **settings)
    trainer.train()
    return losses(trainer)


def logits(model, torch):
    return model.eval()(input_ids=torch.tensor([[5, 6, 7]])).logits[0, -1, :9].tolist()


def ids():
    import torch

    return torch.tensor([[5, 6, 7]])


# -- transformers.Trainer


@program
def trainer_accumulates(lib, tiny, out):
    settings = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}
    return train(lib, tiny, out, **settings)


@program
def trainer_smooths_labels(lib, tiny, out):
    return train(lib, tiny, out, label_smoothing_factor=0.1)


@program
def trainer_resumes(lib, tiny, out):
    import torch

    save = {"save_strategy": "steps", "save_steps": 2, "lr_scheduler_type": "constant"}
    make_trainer(lib, tiny, out, steps=2, **save).train()
    trainer = make_trainer(lib, tiny, out, steps=4, **save)
    trainer.train(resume_from_checkpoint=True)
    again = lib.AutoModelForCausalLM.from_pretrained(out + "/checkpoint-4")
    head = again.lm_head.weight is again.transformer.tokens_embed.weight
    return [*losses(trainer), *again.config.architectures, head, *logits(again, torch)]


@program
def trainer_keeps_the_best(lib, tiny, out):
    often = {"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 1, "save_steps": 1}
    trainer = make_trainer(lib, tiny, out, load_best_model_at_end=True, **often)
    trainer.train()
    return [
        trainer.state.best_metric,
        trainer.evaluate()["eval_loss"],
        trainer.state.best_global_step,
    ]


@program
def trainer_sorts_texts(lib, tiny, out):  # without a collator: the tokenizer pads
    import torch
    import transformers

    tok = tokenizer(lib, tiny)
    kind, new = lib.AutoModelForSequenceClassification, {"num_labels": 2, **NO_DROPOUT}
    model = kind.from_pretrained(tiny, pad_token_id=tok.pad_token_id, **new)
    model.score.weight.data = torch.linspace(-0.1, 0.1, 2 * model.config.n_embd).view(2, -1)
    data = [{**tok(text), "label": n % 2} for n, text in enumerate(TEXTS)]
    args = transformers.TrainingArguments(out, max_steps=2, **QUIET)
    trainer = transformers.Trainer(model, args, train_dataset=data, processing_class=tok)
    trainer.train()
    return [*losses(trainer), *trainer.predict(data).predictions.flatten().tolist()]


# -- accelerate and peft


@program
def accelerate_saves_its_state(lib, tiny, out):
    import torch
    from accelerate import Accelerator

    accelerator, model = Accelerator(cpu=True), language_model(lib, tiny)
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.01))

    def step():
        loss = model(ids(), labels=ids()).loss
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    first = step()
    accelerator.save_state(out)
    second = step()
    accelerator.load_state(out)
    plain = accelerator.unwrap_model(model)
    plain.save_pretrained(out + "/m", state_dict=accelerator.get_state_dict(model))
    again = lib.AutoModelForCausalLM.from_pretrained(out + "/m")
    return [first, second, step(), type(plain).__name__, *logits(again, torch)]


def lora(model, **settings):
    import peft
    import torch

    settings = {"r": 4, "lora_dropout": 0.0, "fan_in_fan_out": True} | settings
    torch.manual_seed(0)
    return peft.get_peft_model(model, peft.LoraConfig(**settings))


@program
def lora_is_trained_saved_and_merged(lib, tiny, out):
    import peft
    import torch

    targets = {"target_modules": ["c_attn", "c_proj", "c_fc"], "task_type": "CAUSAL_LM"}
    model = lora(language_model(lib, tiny), **targets)
    found = train(lib, tiny, out, model=model, learning_rate=1e-3)
    written = model.generate(input_ids=ids(), max_new_tokens=5, do_sample=False)[0].tolist()
    model.save_pretrained(out)
    again = peft.PeftModel.from_pretrained(language_model(lib, tiny), out)
    merged = again.merge_and_unload()
    page = json.loads(Path(out, "adapter_config.json").read_text(encoding="utf-8"))
    named = page["base_model_name_or_path"] == tiny
    return [*found, *written, *logits(merged, torch), named, *model.get_nb_trainable_parameters()]


@program
def lora_sorts_texts(lib, tiny, out):
    import peft
    import torch

    def model():
        found = lib.AutoModelForSequenceClassification.from_pretrained(tiny, num_labels=3)
        found.score.weight.data.fill_(0.01)
        return found

    trained = lora(model(), target_modules=["c_attn"], task_type="SEQ_CLS")
    trained.eval()(input_ids=ids(), labels=torch.tensor([1])).loss.backward()
    trained.save_pretrained(out)
    again = peft.PeftModel.from_pretrained(model(), out).eval()
    learn = sorted(name for name, x in trained.named_parameters() if x.grad is not None)
    return [*again(input_ids=ids()).logits[0].tolist(), *learn]


@program
def lora_finds_all_layers(lib, tiny, out):
    model = lora(language_model(lib, tiny), target_modules="all-linear")
    return [*sorted(model.targeted_module_names), *model.get_nb_trainable_parameters()]


# -- models, outputs, configs


@program
def a_head_of_ones_own(lib, tiny, out):
    import torch

    class Tagger(lib.OpenAIGPTPreTrainedModel):
        def __init__(self, config, tags=4):
            super().__init__(config)
            self.transformer = lib.OpenAIGPTModel(config)
            self.norm = torch.nn.LayerNorm(config.n_embd)
            self.head = torch.nn.Linear(config.n_embd, tags)
            self.post_init()

        def _init_weights(self, module):
            super()._init_weights(module)
            if isinstance(module, torch.nn.Linear):
                module.bias.data.fill_(2.0)

        def forward(self, input_ids, **options):
            return self.head(self.norm(self.transformer(input_ids, **options)[0]))

    model = Tagger.from_pretrained(tiny, tags=7)
    std, shape = model.head.weight.std().item(), [*model(ids()).shape]
    model.save_pretrained(out)
    again = Tagger.from_pretrained(out, tags=7)
    same = torch.equal(model(ids()), again(ids()))
    kept = [again.config.architectures[0], type(again.base_model).__name__, model.training]
    return [abs(std - 0.02) < 0.003, *shape, same, *kept, *model.head.bias.tolist()]


@program
def a_model_tells_of_itself(lib, tiny, out):
    model = language_model(lib, tiny)
    model.transformer.h[0].requires_grad_(False)
    counts = model.num_parameters(only_trainable=True), model.num_parameters(False, True)
    layer = model.transformer.h[0].mlp.c_fc
    table = model.resize_token_embeddings(8195, pad_to_multiple_of=64)
    names = model.base_model_prefix, model.main_input_name, model.config_class.__name__
    tied = model.get_output_embeddings().weight is table.weight
    facts = [*counts, str(layer), layer.nf, layer.nx, len(table.weight), tied, *names]
    facts += [model.can_generate(), model.name_or_path == tiny, model.config.vocab_size]
    return [*facts, *lib.Conv1D(6, 4).weight.shape]


@program
def an_output_is_a_dictionary(lib, tiny, out):
    from torch.utils._pytree import tree_map

    found = language_model(lib, tiny).eval()(ids(), labels=ids(), output_hidden_states=True)
    loss, logits = found[:2]
    zeros = tree_map(lambda x: x.detach() * 0, found)
    found["extra"] = 1
    facts = [isinstance(found, dict), "attentions" in found, found.get("attentions"), *found]
    facts += [loss.item(), len(found), len(found.to_tuple()), found[-1], type(zeros).__name__]
    found.loss = None
    return [*facts, *zeros, zeros.logits.sum().item(), "loss" in found, *dict(found)]


@program
def a_config_is_written_and_read(lib, tiny, out):
    config = lib.OpenAIGPTConfig(n_layer=2, custom="x", n_embd=24)
    config.num_labels = 4
    config.num_attention_heads, config.foo = 4, {"a": 1}
    config.id2label = {0: "x", 1: "y", 2: "z"}
    config.label2id = {"x": 0, "y": 1, "z": 2}
    config.update({"resid_pdrop": 0.0})
    config.to_json_file(out + "/c.json")
    again = lib.OpenAIGPTConfig.from_json_file(out + "/c.json")
    told, page = again.to_dict(), json.loads(config.to_json_string())
    both = lib.OpenAIGPTConfig.from_dict(told, return_unused_kwargs=True, n_head=2, odd=1)
    facts = [again.custom, again.n_head, again.num_labels, told["foo"]["a"], page["n_positions"]]
    facts += [
        both[0].n_head,
        *both[1].items(),
        lib.AutoConfig.for_model("openai-gpt", n_layer=3).n_layer,
    ]
    facts += [
        config.use_return_dict,
        config.is_encoder_decoder,
        lib.AutoConfig.from_pretrained(tiny).n_embd,
    ]
    return [*facts, lib.OpenAIGPTConfig.get_config_dict(tiny)[0]["n_head"], config.architectures]


@program
def all_are_of_the_classes_of_transformers(lib, tiny, out):
    import transformers as t
    from transformers.pytorch_utils import Conv1D

    tok, model = tokenizer(lib, tiny), language_model(lib, tiny)
    pairs = [
        (model, t.PreTrainedModel),
        (model.transformer, t.PreTrainedModel),
        (tok, t.PreTrainedTokenizerBase),
    ]
    pairs += [(model.config, t.PreTrainedConfig), (model(ids()), t.utils.ModelOutput)]
    return [
        *(isinstance(*pair) for pair in pairs),
        sum(isinstance(x, Conv1D) for x in model.modules()),
    ]


def main() -> None:
    first, library, tiny, target = sys.argv[1:]
    if import_module(first).__name__ == "minigpt":
        import_module("minigpt").OpenAIGPTLMHeadModel  # noqa: B018
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    results = {}
    for name, run in PROGRAMS.items():
        transformers.set_seed(0)
        with tempfile.TemporaryDirectory() as out:
            try:
                results[name] = run(import_module(library), tiny, out)
            except Exception as error:
                results[name] = f"{type(error).__name__}: {error}"
    Path(target).write_text(json.dumps(results), encoding="utf-8")


if __name__ == "__main__":
    main()
