__version__ = "0.0.1"
"""GPT-1 rebuilt in notebooks."""
