"""GPT-1 rebuilt in notebooks: the public names.

Every module is exported from the notebook of the same name.
"""

from minigpt.checkpoint import OpenAIGPTConfig
from minigpt.classification import OpenAIGPTForSequenceClassification
from minigpt.double_heads import OpenAIGPTDoubleHeadsModel
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
    "OpenAIGPTConfig",
    "OpenAIGPTDoubleHeadsModel",
    "OpenAIGPTForSequenceClassification",
    "OpenAIGPTLMHeadModel",
    "OpenAIGPTModel",
    "OpenAIGPTTokenizer",
    "OpenAIGPTTokenizerFast",
    "__version__",
    "pipeline",
]
