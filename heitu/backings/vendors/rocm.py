"""AMD: PyTorch's own ROCm build, whose device is called cuda."""

from heitu.backings.backing import Backing, State, TorchBuild, Way

BACKING = Backing(
    name="rocm",
    maker="AMD",
    way=Way.NATIVE,
    state=State.RECOGNISED,
    build=TorchBuild(fields=("hip",)),  # docs.pytorch.org/docs/2.13/notes/hip.html, 2026-11-22
    toolkit="ROCm",
    toolkit_paths=("/opt/rocm",),
    toolkit_variables=("ROCM_PATH",),
    visible_devices=("HIP_VISIBLE_DEVICES",),  # flagos-ai/FlagGems@ed2508b tools/run_tests.py, 2026-08-21
    nodes=("/dev/kfd",),  # rocm.docs.amd.com: running ROCm containers, 2026-11-22
    tools=("rocm-smi", "amd-smi"),  # flagos-ai/FlagCX@0c72129, 2026-08-22
)
