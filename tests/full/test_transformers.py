"""Models of transformers, unmodified, with tiny random configurations: forward, backward, generate.

Each is built on the CPU, copied to cuda by `.to("cuda")` and, where it can be saved, loaded again with
`device_map="cuda"`; outputs and gradients have to equal the CPU's.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

TEXT = {
    "vocab_size": 96,
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


def ids(*shape: int) -> torch.Tensor:
    """Token ids that avoid the special ones."""
    return torch.randint(3, 96, shape, generator=torch.Generator().manual_seed(1))


def noise(*shape: int) -> torch.Tensor:
    """Normal values, always the same."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


def causal(config: str, model: str, **extra: Any) -> Callable[[], tuple[Any, dict[str, torch.Tensor]]]:
    """A language model with its inputs; labels make it return a loss."""

    def make() -> tuple[Any, dict[str, torch.Tensor]]:
        settings = getattr(transformers, config)(**{**TEXT, **extra})
        tokens = ids(2, 9)
        return getattr(transformers, model)(settings), {"input_ids": tokens, "labels": tokens}

    return make


def bert() -> tuple[Any, dict[str, torch.Tensor]]:
    tokens = ids(2, 9)
    model = transformers.BertForMaskedLM(transformers.BertConfig(**TEXT))
    return model, {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": tokens}


def t5() -> tuple[Any, dict[str, torch.Tensor]]:
    config = transformers.T5Config(
        vocab_size=96, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=0
    )
    return transformers.T5ForConditionalGeneration(config), {"input_ids": ids(2, 9), "labels": ids(2, 5)}


def vit() -> tuple[Any, dict[str, torch.Tensor]]:
    model = transformers.ViTForImageClassification(transformers.ViTConfig(**VISION, num_labels=5))
    return model, {"pixel_values": noise(2, 3, 16, 16), "labels": torch.tensor([1, 3])}


def whisper() -> tuple[Any, dict[str, torch.Tensor]]:
    config = transformers.WhisperConfig(
        vocab_size=96,
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
    return model, {"input_features": noise(2, 8, 40), "labels": ids(2, 5)}


def clip() -> tuple[Any, dict[str, torch.Tensor]]:
    text = {k: v for k, v in TEXT.items() if k != "num_key_value_heads"}
    config = transformers.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=16)
    tokens = ids(2, 9)
    tokens[:, -1] = 2
    return transformers.CLIPModel(config), {
        "input_ids": tokens,
        "pixel_values": noise(2, 3, 16, 16),
        "return_loss": True,
    }


def mamba() -> tuple[Any, dict[str, torch.Tensor]]:
    config = transformers.MambaConfig(vocab_size=96, hidden_size=32, state_size=4, num_hidden_layers=2)
    tokens = ids(2, 9)
    return transformers.MambaForCausalLM(config), {"input_ids": tokens, "labels": tokens}


DEEPSEEK = {
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "n_group": 2,
    "topk_group": 1,
    "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "num_key_value_heads": 4,
}
MODELS: dict[str, Callable[[], tuple[Any, dict[str, torch.Tensor]]]] = {
    "llama": causal("LlamaConfig", "LlamaForCausalLM"),
    "qwen3": causal("Qwen3Config", "Qwen3ForCausalLM", head_dim=8),
    "deepseek_v3": causal("DeepseekV3Config", "DeepseekV3ForCausalLM", **DEEPSEEK),
    "mixtral": causal("MixtralConfig", "MixtralForCausalLM", num_local_experts=4, num_experts_per_tok=2),
    "gemma": causal("GemmaConfig", "GemmaForCausalLM", head_dim=8),
    "phi": causal("PhiConfig", "PhiForCausalLM"),
    "gpt2": causal("GPT2Config", "GPT2LMHeadModel"),
    "bert": bert,
    "t5": t5,
    "vit": vit,
    "whisper": whisper,
    "clip": clip,
    "mamba": mamba,
}
GENERATES = {"llama", "qwen3", "deepseek_v3", "mixtral", "gemma", "phi", "gpt2", "t5", "whisper", "mamba"}


def on(device: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """The inputs on a device."""
    return {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in inputs.items()}


@pytest.mark.parametrize("name", MODELS)
def test_equals_the_cpu(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, inputs = MODELS[name]()
    model.eval()  # dropout draws other numbers on the two devices
    twin = copy.deepcopy(model).to("cuda")
    assert next(twin.parameters()).device.type == "cuda"

    expected, got = model(**inputs), twin(**on("cuda", inputs))
    assert got.loss.device.type == "cuda"
    torch.testing.assert_close(got.loss.cpu(), expected.loss, rtol=1e-5, atol=1e-6)
    expected.loss.backward()
    got.loss.backward()
    for (key, a), b in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None), key
        if a.grad is not None:
            torch.testing.assert_close(b.grad.cpu(), a.grad, rtol=1e-4, atol=1e-6)

    if name in GENERATES:
        start = {k: v for k, v in inputs.items() if k != "labels"}
        settings = {"max_new_tokens": 6, "do_sample": False}
        assert torch.equal(
            twin.generate(**on("cuda", start), **settings).cpu(), model.generate(**start, **settings)
        )

    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path, device_map="cuda").eval()
    assert {p.device.type for p in loaded.parameters()} == {"cuda"}
    torch.testing.assert_close(loaded(**on("cuda", inputs)).loss, got.loss, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_accelerate_training_loop(precision: str) -> None:
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")
    torch.manual_seed(0)
    accelerator = accelerate.Accelerator(mixed_precision=precision, gradient_accumulation_steps=2)
    assert accelerator.device.type == "cuda"
    model, _ = MODELS["llama"]()
    data = [{"input_ids": row, "labels": row} for row in ids(32, 9)]
    loader = torch.utils.data.DataLoader(data, batch_size=8, shuffle=True, pin_memory=True)  # type: ignore[arg-type]
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer)
    model, optimizer, loader, schedule = accelerator.prepare(model, optimizer, loader, schedule)
    losses = []
    for _ in range(6):
        for batch in loader:
            with accelerator.accumulate(model):
                loss = model(**batch).loss
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            losses.append(accelerator.gather(loss.detach()).mean().item())
    assert losses[-1] < 0.9 * losses[0]
    accelerator.state._reset_state()
    accelerate.state.GradientState._reset_state()
    accelerate.state.PartialState._reset_state()


def test_peft_lora_trains_only_the_adapter() -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed")
    torch.manual_seed(0)
    model, inputs = MODELS["llama"]()
    model = peft.get_peft_model(
        model, peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    ).to("cuda")
    before = {k: v.detach().clone() for k, v in model.named_parameters()}
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-2, fused=True)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = model(**on("cuda", inputs)).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    for key, value in model.named_parameters():
        assert torch.equal(value, before[key]) == (not value.requires_grad), key


def test_trainer(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, _ = MODELS["gpt2"]()
    data = [{"input_ids": row, "labels": row} for row in ids(32, 9)]
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path),
        num_train_epochs=3,
        per_device_train_batch_size=8,
        bf16=True,
        learning_rate=5e-3,
        report_to=[],
        logging_steps=1,
        optim="adamw_torch_fused",
        save_strategy="epoch",
    )
    trainer = transformers.Trainer(model=model, args=arguments, train_dataset=data)
    assert trainer.args.device.type == "cuda"
    trainer.train()
    logged = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert logged[-1] < logged[0]
