"""What ``insitu lm`` measures: reading demonstrations against training on them, on any causal language model."""
