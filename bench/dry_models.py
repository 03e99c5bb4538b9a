"""Forward and backward of models too large for any one machine, unedited transformers: what a dry run costs.

Usage: heitu run --dry --memory 1TiB bench/dry_models.py [llama | mixtral | deepseek_v3] [--length 2048]
Without enough --memory it ends as it would on the device: out of memory. Takes transformers.
"""

from __future__ import annotations

import argparse
import resource
import time

START = time.perf_counter()

import torch  # noqa: E402
import transformers  # noqa: E402

GIB = 2**30
HEADS = {"num_key_value_heads": 8, "vocab_size": 32000}
# The family in transformers, and the numbers of its largest model; DeepSeek-V3's are the defaults.
MODELS = {
    "llama": ("Llama", {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80,
                        "num_attention_heads": 64, **HEADS}),
    "mixtral": ("Mixtral", {"hidden_size": 6144, "intermediate_size": 16384, "num_hidden_layers": 56,
                            "num_attention_heads": 48, **HEADS}),
    "deepseek_v3": ("DeepseekV3", {}),
}  # fmt: skip


def say(what: str) -> None:
    """One line: seconds since the start, the process's peak memory, the device's, and what was done."""
    seconds = time.perf_counter() - START
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB
    device = torch.cuda.max_memory_allocated() / GIB
    print(f"{seconds:6.1f} s   host {host:5.2f} GiB   device {device:7.1f} GiB   {what}", flush=True)


def main() -> None:
    """Builds the model on the CPU, moves it, and runs one pass forward and back."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", nargs="?", default="llama", choices=MODELS)
    parser.add_argument("--length", type=int, default=2048, help="tokens of the one sequence")
    asked = parser.parse_args()
    say("torch and transformers imported")
    family, numbers = MODELS[asked.model]
    config = getattr(transformers, f"{family}Config")(**numbers)
    model = getattr(transformers, f"{family}ForCausalLM")(config)
    say("built and initialised on the CPU, in float32")
    model = model.to(torch.bfloat16).to("cuda").train()
    billions = sum(p.numel() for p in model.parameters()) / 1e9
    say(f"{billions:.1f} billion parameters on the device, in bfloat16")
    tokens = torch.randint(0, config.vocab_size, (1, asked.length), device="cuda")
    loss = model(input_ids=tokens, labels=tokens).loss
    say("forward")
    loss.backward()
    say("backward")


if __name__ == "__main__":
    main()
