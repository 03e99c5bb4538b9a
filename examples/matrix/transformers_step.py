"""Trains a tiny, randomly initialised model of transformers for a few steps, then generates with it.

Usage: python transformers_step.py llama [--steps 2] [--dtype bfloat16]
"""

import argparse
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers

VOCABULARY = 96
TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 16,
    "patch_size": 4,
}


def tokens(*shape):
    """Token ids without the special ones."""
    return torch.randint(3, VOCABULARY, shape)


def causal(family, **more):
    """A decoder of the family: LlamaConfig with LlamaForCausalLM, and so on."""
    config = getattr(transformers, f"{family}Config")(**{**TEXT, **more})
    head = "LMHeadModel" if family == "GPT2" else "ForCausalLM"
    ids = tokens(4, 16)
    return getattr(transformers, family + head)(config), {"input_ids": ids, "labels": ids}


def deepseek_v3():
    return causal(
        "DeepseekV3",
        n_routed_experts=4,
        n_shared_experts=1,
        num_experts_per_tok=2,
        n_group=2,
        topk_group=1,
        moe_intermediate_size=16,
        first_k_dense_replace=1,
        q_lora_rank=16,
        kv_lora_rank=16,
        qk_rope_head_dim=8,
        qk_nope_head_dim=8,
        v_head_dim=8,
        num_key_value_heads=4,
    )


def mamba():
    config = transformers.MambaConfig(
        vocab_size=VOCABULARY, hidden_size=32, state_size=4, num_hidden_layers=2
    )
    ids = tokens(4, 16)
    return transformers.MambaForCausalLM(config), {"input_ids": ids, "labels": ids}


def bert():
    ids = tokens(4, 16)
    mask = torch.ones_like(ids)
    mask[:2, 12:] = 0
    model = transformers.BertForMaskedLM(transformers.BertConfig(**TEXT))
    return model, {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}


def t5():
    config = transformers.T5Config(
        vocab_size=VOCABULARY,
        d_model=32,
        d_kv=8,
        d_ff=48,
        num_layers=2,
        num_heads=4,
        decoder_start_token_id=0,
    )
    return transformers.T5ForConditionalGeneration(config), {
        "input_ids": tokens(4, 16),
        "labels": tokens(4, 8),
    }


def vit():
    model = transformers.ViTForImageClassification(transformers.ViTConfig(**VISION, num_labels=5))
    return model, {"pixel_values": torch.randn(4, 3, 16, 16), "labels": torch.randint(0, 5, (4,))}


def whisper():
    config = transformers.WhisperConfig(
        vocab_size=VOCABULARY,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        num_mel_bins=8,
        max_source_positions=20,
        max_target_positions=40,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    model = transformers.WhisperForConditionalGeneration(config)
    return model, {"input_features": torch.randn(2, 8, 40), "labels": tokens(2, 6)}


def clip():
    text = {key: value for key, value in TEXT.items() if key != "num_key_value_heads"}
    model = transformers.CLIPModel(
        transformers.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=16)
    )
    ids = tokens(4, 12)
    ids[:, -1] = TEXT["eos_token_id"]
    return model, {"input_ids": ids, "pixel_values": torch.randn(4, 3, 16, 16), "return_loss": True}


MODELS = {
    "llama": lambda: causal("Llama"),
    "qwen3": lambda: causal("Qwen3", head_dim=8),
    "mixtral": lambda: causal("Mixtral", num_local_experts=4, num_experts_per_tok=2),
    "deepseek_v3": deepseek_v3,
    "gemma": lambda: causal("Gemma", head_dim=8),
    "phi": lambda: causal("Phi"),
    "gpt2": lambda: causal("GPT2"),
    "mamba": mamba,
    "bert": bert,
    "t5": t5,
    "vit": vit,
    "whisper": whisper,
    "clip": clip,
}
SILENT = {"bert", "vit", "clip"}  # which generate nothing


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="bfloat16")
    args = parser.parse_args()

    torch.manual_seed(0)
    model, batch = MODELS[args.model]()
    model = model.to("cuda").train()
    batch = {key: value.cuda() if torch.is_tensor(value) else value for key, value in batch.items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    dtype = getattr(torch, args.dtype)
    for step in range(args.steps):
        with torch.autocast("cuda", dtype=dtype, enabled=dtype != torch.float32):
            loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        print(f"step {step}: loss {loss.item():.4f}")

    model.eval()
    if args.model not in SILENT:
        prompt = {key: value for key, value in batch.items() if key != "labels"}
        generated = model.generate(**prompt, max_new_tokens=6, do_sample=False)
        print("generated", generated[0, -6:].tolist())


if __name__ == "__main__":
    main()
