"""The drop-in for transformers: configuration, files, models, tokenizers, generation, pipelines."""
