"""Pretraining small language models on text."""
