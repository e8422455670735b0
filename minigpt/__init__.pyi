from minigpt.checkpoint import OpenAIGPTConfig as OpenAIGPTConfig
from minigpt.classification import (
    OpenAIGPTForSequenceClassification as OpenAIGPTForSequenceClassification,
)
from minigpt.double_heads import OpenAIGPTDoubleHeadsModel as OpenAIGPTDoubleHeadsModel
from minigpt.fast_generation import FastGenerator as FastGenerator
from minigpt.generation import GenerationConfig as GenerationConfig
from minigpt.generation import TextIteratorStreamer as TextIteratorStreamer
from minigpt.generation import TextStreamer as TextStreamer
from minigpt.lm_head import OpenAIGPTLMHeadModel as OpenAIGPTLMHeadModel
from minigpt.model import OpenAIGPTModel as OpenAIGPTModel
from minigpt.pipeline import AutoConfig as AutoConfig
from minigpt.pipeline import AutoModel as AutoModel
from minigpt.pipeline import AutoModelForCausalLM as AutoModelForCausalLM
from minigpt.pipeline import (
    AutoModelForSequenceClassification as AutoModelForSequenceClassification,
)
from minigpt.pipeline import AutoTokenizer as AutoTokenizer
from minigpt.pipeline import pipeline as pipeline
from minigpt.speculative import speculate as speculate
from minigpt.tokenizer import OpenAIGPTTokenizer as OpenAIGPTTokenizer
from minigpt.tokenizer import OpenAIGPTTokenizerFast as OpenAIGPTTokenizerFast

__version__: str
