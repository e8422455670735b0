from minigpt.fast.static_cache import FastGenerator as FastGenerator
from minigpt.hf.batch_encoding import BatchEncoding as BatchEncoding
from minigpt.hf.configuration import AutoConfig as AutoConfig
from minigpt.hf.configuration import OpenAIGPTConfig as OpenAIGPTConfig
from minigpt.hf.generation import set_seed as set_seed
from minigpt.hf.generation import speculate as speculate
from minigpt.hf.generation_config import GenerationConfig as GenerationConfig
from minigpt.hf.models import AutoModel as AutoModel
from minigpt.hf.models import AutoModelForCausalLM as AutoModelForCausalLM
from minigpt.hf.models import (
    AutoModelForSequenceClassification as AutoModelForSequenceClassification,
)
from minigpt.hf.models import Conv1D as Conv1D
from minigpt.hf.models import OpenAIGPTDoubleHeadsModel as OpenAIGPTDoubleHeadsModel
from minigpt.hf.models import (
    OpenAIGPTForSequenceClassification as OpenAIGPTForSequenceClassification,
)
from minigpt.hf.models import OpenAIGPTLMHeadModel as OpenAIGPTLMHeadModel
from minigpt.hf.models import OpenAIGPTModel as OpenAIGPTModel
from minigpt.hf.models import OpenAIGPTPreTrainedModel as OpenAIGPTPreTrainedModel
from minigpt.hf.pipeline import FeatureExtractionPipeline as FeatureExtractionPipeline
from minigpt.hf.pipeline import TextClassificationPipeline as TextClassificationPipeline
from minigpt.hf.pipeline import TextGenerationPipeline as TextGenerationPipeline
from minigpt.hf.pipeline import ZeroShotClassificationPipeline as ZeroShotClassificationPipeline
from minigpt.hf.pipeline import pipeline as pipeline
from minigpt.hf.processors import LogitsProcessor as LogitsProcessor
from minigpt.hf.processors import LogitsProcessorList as LogitsProcessorList
from minigpt.hf.processors import StoppingCriteria as StoppingCriteria
from minigpt.hf.processors import StoppingCriteriaList as StoppingCriteriaList
from minigpt.hf.streamers import TextIteratorStreamer as TextIteratorStreamer
from minigpt.hf.streamers import TextStreamer as TextStreamer
from minigpt.hf.tokenization import AutoTokenizer as AutoTokenizer
from minigpt.hf.tokenization import OpenAIGPTTokenizer as OpenAIGPTTokenizer
from minigpt.hf.tokenization import OpenAIGPTTokenizerFast as OpenAIGPTTokenizerFast

__version__: str
