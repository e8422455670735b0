from minigpt.hf.configuration import OpenAIGPTConfig as OpenAIGPTConfig
from minigpt.old.classification import (
    OpenAIGPTForSequenceClassification as OpenAIGPTForSequenceClassification,
)
from minigpt.old.double_heads import OpenAIGPTDoubleHeadsModel as OpenAIGPTDoubleHeadsModel
from minigpt.old.fast_generation import FastGenerator as FastGenerator
from minigpt.old.generation import GenerationConfig as GenerationConfig
from minigpt.old.generation import TextIteratorStreamer as TextIteratorStreamer
from minigpt.old.generation import TextStreamer as TextStreamer
from minigpt.old.lm_head import OpenAIGPTLMHeadModel as OpenAIGPTLMHeadModel
from minigpt.old.model import OpenAIGPTModel as OpenAIGPTModel
from minigpt.hf.auto import AutoConfig as AutoConfig
from minigpt.hf.auto import AutoModel as AutoModel
from minigpt.hf.auto import AutoModelForCausalLM as AutoModelForCausalLM
from minigpt.hf.auto import (
    AutoModelForSequenceClassification as AutoModelForSequenceClassification,
)
from minigpt.hf.auto import AutoTokenizer as AutoTokenizer
from minigpt.hf.pipeline import pipeline as pipeline
from minigpt.old.speculative import speculate as speculate
from minigpt.hf.tokenization import OpenAIGPTTokenizer as OpenAIGPTTokenizer
from minigpt.hf.tokenization import OpenAIGPTTokenizerFast as OpenAIGPTTokenizerFast

__version__: str
