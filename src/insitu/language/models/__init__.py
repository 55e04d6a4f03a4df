"""Causal language models: loading them, reading prompts with them, and fine-tuning them."""
