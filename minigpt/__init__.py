"""GPT-1 rebuilt in notebooks: the public names.

Every module is exported from the notebook of the same name.
"""

from minigpt.checkpoint import OpenAIGPTConfig
from minigpt.classification import OpenAIGPTForSequenceClassification
from minigpt.double_heads import OpenAIGPTDoubleHeadsModel
from minigpt.fast_generation import FastGenerator
from minigpt.generation import GenerationConfig, TextIteratorStreamer, TextStreamer
from minigpt.lm_head import OpenAIGPTLMHeadModel
from minigpt.model import OpenAIGPTModel
from minigpt.pipeline import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    pipeline,
)
from minigpt.tokenizer import OpenAIGPTTokenizer, OpenAIGPTTokenizerFast

__version__ = "0.1.0"

__all__ = [
    "AutoConfig",
    "AutoModel",
    "AutoModelForCausalLM",
    "AutoModelForSequenceClassification",
    "AutoTokenizer",
    "FastGenerator",
    "GenerationConfig",
    "OpenAIGPTConfig",
    "OpenAIGPTDoubleHeadsModel",
    "OpenAIGPTForSequenceClassification",
    "OpenAIGPTLMHeadModel",
    "OpenAIGPTModel",
    "OpenAIGPTTokenizer",
    "OpenAIGPTTokenizerFast",
    "TextIteratorStreamer",
    "TextStreamer",
    "__version__",
    "pipeline",
]
