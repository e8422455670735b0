"""GPT-1 rebuilt in notebooks: the public names.

The modules of this folder are exported from the course's notebooks; `hf` wraps them as the drop-in
for transformers. A name's module is imported when the name is first asked for, so `import minigpt`
costs nothing and `minigpt --help` need not wait for PyTorch. `__init__.pyi` tells the same names to
editors.
"""

from importlib import import_module

__version__ = "0.1.0"

HOME = {  # public name -> the module that defines it
    "AutoConfig": "hf.configuration",
    "AutoModel": "hf.models",
    "AutoModelForCausalLM": "hf.models",
    "AutoModelForSequenceClassification": "hf.models",
    "AutoTokenizer": "hf.tokenization",
    "BatchEncoding": "hf.batch_encoding",
    "Conv1D": "hf.models",
    "FastGenerator": "fast.static_cache",
    "FeatureExtractionPipeline": "hf.pipeline",
    "GenerationConfig": "hf.generation_config",
    "LogitsProcessor": "hf.processors",
    "LogitsProcessorList": "hf.processors",
    "OpenAIGPTConfig": "hf.configuration",
    "OpenAIGPTDoubleHeadsModel": "hf.models",
    "OpenAIGPTForSequenceClassification": "hf.models",
    "OpenAIGPTLMHeadModel": "hf.models",
    "OpenAIGPTModel": "hf.models",
    "OpenAIGPTPreTrainedModel": "hf.models",
    "OpenAIGPTTokenizer": "hf.tokenization",
    "OpenAIGPTTokenizerFast": "hf.tokenization",
    "StoppingCriteria": "hf.processors",
    "StoppingCriteriaList": "hf.processors",
    "TextClassificationPipeline": "hf.pipeline",
    "TextGenerationPipeline": "hf.pipeline",
    "TextIteratorStreamer": "hf.streamers",
    "TextStreamer": "hf.streamers",
    "ZeroShotClassificationPipeline": "hf.pipeline",
    "pipeline": "hf.pipeline",
    "set_seed": "hf.generation",
    "speculate": "hf.generation",
}
__all__ = [*HOME, "__version__"]


def __getattr__(name: str):
    if name not in HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{HOME[name]}"), name)
    globals()[name] = value  # the next time, Python finds it without asking here
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
