from minigpt.old.checkpoint import OpenAIGPTConfig as OpenAIGPTConfig
from minigpt.old.classification import (
    OpenAIGPTForSequenceClassification as OpenAIGPTForSequenceClassification,
)
from minigpt.old.double_heads import OpenAIGPTDoubleHeadsModel as OpenAIGPTDoubleHeadsModel
from minigpt.fast.static_cache import FastGenerator as FastGenerator
from minigpt.hf.generation_config import GenerationConfig as GenerationConfig
from minigpt.hf.streamers import TextIteratorStreamer as TextIteratorStreamer
from minigpt.hf.streamers import TextStreamer as TextStreamer
from minigpt.old.lm_head import OpenAIGPTLMHeadModel as OpenAIGPTLMHeadModel
from minigpt.old.model import OpenAIGPTModel as OpenAIGPTModel
from minigpt.old.pipeline import AutoConfig as AutoConfig
from minigpt.old.pipeline import AutoModel as AutoModel
from minigpt.old.pipeline import AutoModelForCausalLM as AutoModelForCausalLM
from minigpt.old.pipeline import (
    AutoModelForSequenceClassification as AutoModelForSequenceClassification,
)
from minigpt.old.pipeline import AutoTokenizer as AutoTokenizer
from minigpt.old.pipeline import pipeline as pipeline
from minigpt.hf.generation import speculate as speculate
from minigpt.old.tokenizer import OpenAIGPTTokenizer as OpenAIGPTTokenizer
from minigpt.old.tokenizer import OpenAIGPTTokenizerFast as OpenAIGPTTokenizerFast

__version__: str
