"""Small untrained models of three architectures with a tokeniser of their own, in folders as a user has them."""

import json
import random

import torch

WORDS = (
    "the",
    "film",
    "plot",
    "actor",
    "joy",
    "dull",
    "bright",
    "slow",
    "warm",
    "cold",
    "brave",
    "night",
    "war",
    "and",
)


def write_corpus(folder, rows=24, seed=0):
    """Two labels, texts of a few words; the words tell nothing of the label."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(seed)
    for part, count in (("train", rows), ("test", rows // 2)):
        lines = [
            {"text": " ".join(draw.choices(WORDS, k=draw.randint(3, 7))), "label": ("fact", "view")[i % 2]}
            for i in range(count)
        ]
        (folder / f"{part}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


TEMPLATE = """
[own]
question = "Text: "
answer = "Kind:"
words = { fact = "fact", view = "opinion" }
"""


def tokenizer(text):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator([text], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made)


def network(kind, vocabulary):
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        GPTNeoXConfig,
        GPTNeoXForCausalLM,
        LlamaConfig,
        LlamaForCausalLM,
    )

    if kind == "llama":
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=vocabulary,
                hidden_size=32,
                intermediate_size=48,
                num_hidden_layers=3,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=256,
                initializer_range=0.2,
            )
        )
    if kind == "gpt2":
        return GPT2LMHeadModel(
            GPT2Config(vocab_size=vocabulary, n_embd=32, n_layer=3, n_head=4, n_positions=256, initializer_range=0.2)
        )
    return GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=vocabulary,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=256,
            initializer_range=0.2,
        )
    )


KINDS = ("llama", "gpt2", "neox")


def write_model(folder, kind):
    """A folder that ``load_language_model`` reads."""
    with torch.random.fork_rng():
        torch.manual_seed(KINDS.index(kind))
        words = tokenizer(" ".join(WORDS) + " Text: Kind: fact Kind: Text:")
        made = network(kind, len(words))
        made.save_pretrained(folder)
        words.save_pretrained(folder)
    return folder
