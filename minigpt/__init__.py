"""GPT-1 rebuilt in notebooks: the public names.

Every module is exported from the notebook of the same name. A name's module is imported when the
name is first asked for, so `import minigpt` costs nothing and `minigpt --help` need not wait for
PyTorch. `__init__.pyi` tells the same names to editors.
"""

import sys
from importlib import import_module
from types import ModuleType

__version__ = "0.1.0"

HOME = {  # public name -> the module that defines it
    "AutoConfig": "old.pipeline",
    "AutoModel": "old.pipeline",
    "AutoModelForCausalLM": "old.pipeline",
    "AutoModelForSequenceClassification": "old.pipeline",
    "AutoTokenizer": "old.pipeline",
    "FastGenerator": "fast.static_cache",
    "GenerationConfig": "hf.generation_config",
    "OpenAIGPTConfig": "old.checkpoint",
    "OpenAIGPTDoubleHeadsModel": "old.double_heads",
    "OpenAIGPTForSequenceClassification": "old.classification",
    "OpenAIGPTLMHeadModel": "old.lm_head",
    "OpenAIGPTModel": "old.model",
    "OpenAIGPTTokenizer": "old.tokenizer",
    "OpenAIGPTTokenizerFast": "old.tokenizer",
    "TextIteratorStreamer": "hf.streamers",
    "TextStreamer": "hf.streamers",
    "pipeline": "old.pipeline",
    "speculate": "hf.generation",
}
__all__ = [*HOME, "__version__"]


class Package(ModuleType):
    """A package in which a public name wins over a module of that name."""

    def __setattr__(self, name: str, value) -> None:
        # whoever imports the module `pipeline` makes Python store it here, in the function's place
        if not (name in HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = Package


def __getattr__(name: str):
    if name not in HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{HOME[name]}"), name)
    globals()[name] = value  # the next time, Python finds it without asking here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *HOME})
