"""Baidu Kunlunxin: the stock CUDA build of torch over libraries with CUDA's ABI."""

from heitu.backings.backing import Backing, Pairing, State, TorchBuild, TritonBuild, Way

BACKING = Backing(
    name="kunlunxin",
    maker="Baidu Kunlunxin",
    way=Way.SHIM,
    state=State.RECOGNISED,
    # baidu/vLLM-Kunlun openwiki/torch-xmlir (PR#462), 2026-09-02: torch_xmlir comes in by an import hook.
    build=TorchBuild(modules=("torch_xmlir",)),
    toolkit="XRE",
    toolkit_paths=("/usr/local/xpu",),
    # flagos-ai/FlagGems@0b1460c src/flag_gems/backends.yaml, 2026-11-22.
    pairings=(Pairing("2.9.0+cu129", "1.0.0.1", "XRE 5.37.1"),),
    triton=(TritonBuild("triton", "+git"),),
    visible_devices=("XPU_VISIBLE_DEVICES",),  # vLLM-Kunlun@09869ee env_vars.md; CUDA_VISIBLE_DEVICES, too
    nodes=("/dev/xpu[0-9]*",),
    tools=("xpu-smi", "xpu_smi"),
)
