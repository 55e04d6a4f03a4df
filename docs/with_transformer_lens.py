"""SmolLM2 in TransformerLens: the activations of a prompt with demonstrations.

pip install transformer-lens, then python docs/with_transformer_lens.py
"""

import tempfile

import torch
from transformer_lens.model_bridge import TransformerBridge

import insitu

TEXT = "Review: a joy.\nSentiment: positive\n\nReview: dull.\nSentiment:"


def main() -> None:
    """Bridge the model, keep its activations, and compare its logits with the model's own."""
    model = insitu.load("smollm2")
    with tempfile.TemporaryDirectory() as folder:
        # The bridge reads the configuration from a folder and takes the loaded weights.
        model.network.save_pretrained(folder)
        bridge = TransformerBridge.boot_transformers(
            folder, hf_model=model.network, tokenizer=model.tokenizer, device="cpu"
        )
    tokens = bridge.to_tokens(TEXT, prepend_bos=False)
    logits, activations = bridge.run_with_cache(tokens)
    with torch.no_grad():
        difference = (logits - model.network(tokens).logits).abs().max()
    pattern = activations["blocks.3.attn.hook_pattern"]
    print(f"attention of layer 3: {tuple(pattern.shape)}; largest difference of logits: {difference:.2g}")


if __name__ == "__main__":
    main()
