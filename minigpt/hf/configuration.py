"""Stub until worker C's lands."""
from minigpt.old.checkpoint import OpenAIGPTConfig as OpenAIGPTConfig
