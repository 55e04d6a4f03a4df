"""Small random language models of many architectures, built in memory, and plain forward passes of them."""

import copy
import functools
from typing import Any

import torch

from insitu.language import LanguageModel

VOCABULARY = 64
# Large weights: attention that is almost even would hide who sees whom.
SPREAD = 0.4

WIDTHS = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
GROUPED = {**WIDTHS, "num_key_value_heads": 1, "head_dim": 8}
LONG = {"max_position_embeddings": 96}
ROPE = {"rope_type": "default", "rope_theta": 10000.0}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 4,
    "long_factor": [1.0, 4.0, 16.0, 32.0],
    "original_max_position_embeddings": 40,
}
EXPERTS = {"num_local_experts": 2, "num_experts_per_tok": 1}
GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 96}

# What is built: the class of its configuration, and what that is given.
SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {**GROUPED, **LONG}),
    "gpt2": ("GPT2Config", GPT2),
    "gpt_neox": ("GPTNeoXConfig", {**WIDTHS, **LONG}),
    "gptj": ("GPTJConfig", {**GPT2, "rotary_dim": 4}),
    "gpt_neo": (
        "GPTNeoConfig",
        {**LONG, "hidden_size": 16, "num_layers": 2, "num_heads": 2, "attention_types": [[["global", "local"], 1]]}
        | {"window_size": 8},
    ),
    "gpt_bigcode": ("GPTBigCodeConfig", GPT2),
    "opt": (
        "OPTConfig",
        {**LONG, "hidden_size": 16, "ffn_dim": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
        | {"word_embed_proj_dim": 16},
    ),
    "roberta": ("RobertaConfig", {**WIDTHS, "is_decoder": True, "max_position_embeddings": 98}),
    "qwen2": (
        "Qwen2Config",
        {**GROUPED, **LONG, "use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1},
    ),
    "qwen3": ("Qwen3Config", {**GROUPED, **LONG}),
    "gemma": ("GemmaConfig", {**GROUPED, **LONG}),
    "gemma2": ("Gemma2Config", {**GROUPED, **LONG, "sliding_window": 9, "query_pre_attn_scalar": 8}),
    "gemma3": ("Gemma3TextConfig", {**GROUPED, **LONG, "sliding_window": 9, "query_pre_attn_scalar": 8}),
    "gemma3 nested": (
        "Gemma3Config",
        {
            "text_config": {
                **GROUPED,
                **LONG,
                "vocab_size": VOCABULARY,
                "sliding_window": 9,
                "query_pre_attn_scalar": 8,
            },
            "vision_config": {**WIDTHS, "image_size": 8, "patch_size": 4},
            "image_token_index": 63,
            "mm_tokens_per_image": 1,
        },
    ),
    "mistral": ("MistralConfig", {**GROUPED, **LONG, "sliding_window": 9}),
    "mistral wide": ("MistralConfig", {**GROUPED, **LONG, "sliding_window": 50}),
    "mixtral": ("MixtralConfig", {**GROUPED, **LONG, **EXPERTS}),
    "phi3": ("Phi3Config", {**GROUPED, **LONG, "rope_parameters": LONGROPE, "original_max_position_embeddings": 40}),
    "cohere2": ("Cohere2Config", {**GROUPED, **LONG, "sliding_window": 9}),
    "bloom": ("BloomConfig", {"hidden_size": 16, "n_layer": 2, "n_head": 2}),
    "falcon alibi": (
        "FalconConfig",
        {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "alibi": True, "multi_query": True},
    ),
    "mpt": ("MptConfig", {"d_model": 16, "n_heads": 2, "n_layers": 2, "max_seq_len": 96}),
    "gpt_oss": (
        "GptOssConfig",
        {**GROUPED, **LONG, **EXPERTS, "sliding_window": 9, "rope_parameters": ROPE},
    ),
    "llama4": (
        "Llama4TextConfig",
        {**GROUPED, **LONG, **EXPERTS, "attention_chunk_size": 9, "intermediate_size_mlp": 24},
    ),
    "modernbert": (
        "ModernBertDecoderConfig",
        {**WIDTHS, **LONG, "local_attention": 10, "global_attn_every_n_layers": 2},
    ),
    "mamba": ("MambaConfig", {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 4}),
    "rwkv": (
        "RwkvConfig",
        {"hidden_size": 16, "attention_hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2},
    ),
    "lfm2": ("Lfm2Config", {**GROUPED, **LONG, "layer_types": ["conv", "full_attention"], "block_ff_dim": 24}),
    "jamba": (
        "JambaConfig",
        {**WIDTHS, **LONG, "num_key_value_heads": 1, "attn_layer_period": 2, "attn_layer_offset": 1}
        | {"num_experts": 1, "mamba_d_state": 4, "use_mamba_kernels": False},
    ),
    "openai-gpt": ("OpenAIGPTConfig", GPT2),
}


# More ways to store queries, keys and values.
STORED: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt_bigcode, every head": ("GPTBigCodeConfig", {**GPT2, "multi_query": False}),
    "falcon, groups": (
        "FalconConfig",
        {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_kv_heads": 2}
        | {"new_decoder_architecture": True},
    ),
    "falcon, every head": (
        "FalconConfig",
        {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "multi_query": False},
    ),
    "codegen": ("CodeGenConfig", {**GPT2, "n_embd": 32, "n_head": 4, "rotary_dim": 4}),
    "ctrl": ("CTRLConfig", {**GPT2, "dff": 24}),
    "xlm": ("XLMConfig", {**LONG, "emb_dim": 16, "n_layers": 2, "n_heads": 2, "causal": True, "use_lang_emb": False}),
    "persimmon": ("PersimmonConfig", {**WIDTHS, **LONG}),
    "qwen3_next": (
        "Qwen3NextConfig",
        {**GROUPED, **LONG, "layer_types": ["linear_attention", "full_attention"], "mlp_only_layers": [0, 1]}
        | {"linear_num_value_heads": 2, "linear_num_key_heads": 2}
        | {"linear_key_head_dim": 8, "linear_value_head_dim": 8},
    ),
}


class Numbers:
    """A tokeniser of numbers: ``"12 5"`` is (12, 5)."""

    all_special_ids = (0, 1, 2)

    def __len__(self) -> int:
        return VOCABULARY

    def __call__(self, text: str, **_: Any) -> Any:
        from transformers import BatchEncoding

        return BatchEncoding({"input_ids": [int(word) for word in text.split() if word.isdecimal()]})


def network(name: str, **changes: Any) -> Any:
    """A network of an architecture, in float64 where it can be, without dropout."""
    import transformers

    kind, settings = (SETTINGS | STORED)[name]
    sizes = {} if "text_config" in settings else {"vocab_size": VOCABULARY}
    config = getattr(transformers, kind)(**{**sizes, "pad_token_id": 1, **settings, **changes})
    with torch.random.fork_rng():
        torch.manual_seed(1)
        built = transformers.AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for weight_name, weight in built.named_parameters():
                if weight.ndim >= 2 and "A_log" not in weight_name:
                    weight.normal_(0.0, SPREAD)
    return built.eval().requires_grad_(False)


@functools.cache
def model(name: str, dtype: torch.dtype = torch.float32) -> LanguageModel:
    """A small random model; shared, so nobody may change it."""
    return LanguageModel(name, network(name).to(dtype), Numbers())


def plainly(network: Any, prompt: tuple[int, ...], words: list[tuple[int, ...]]) -> tuple[torch.Tensor, torch.Tensor]:
    """What a model says behind a prompt, and of every word: one whole forward pass after the other, nothing else.

    A word of one token is asked of the same sequence as the prompt, which is then read once.
    """

    @functools.cache
    def logs(ids: tuple[int, ...]) -> torch.Tensor:
        return network(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)

    labels = []
    for word in words:
        whole = (*prompt, *word)
        read = logs(whole[:-1])
        labels.append(sum(read[place - 1, whole[place]] for place in range(len(prompt), len(whole))))
    return logs(prompt)[-1], torch.stack(labels)


def in_float64(network: Any) -> Any:
    """A copy in float64, whose experts are plain products of matrices."""
    exact = copy.deepcopy(network).double()
    exact.config._experts_implementation = "eager"
    return exact
