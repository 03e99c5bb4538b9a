"""NVIDIA: PyTorch's own CUDA build."""

from heitu.backings.backing import Backing, State, TorchBuild, Way

BACKING = Backing(
    name="nvidia",
    maker="NVIDIA",
    way=Way.NATIVE,
    state=State.RECOGNISED,
    # docs.pytorch.org: torch.version.cuda; CUDA C++ Programming Guide: environment variables; 2026-11-22.
    build=TorchBuild(fields=("cuda",)),
    toolkit="CUDA",
    visible_devices=("CUDA_VISIBLE_DEVICES",),
    nodes=("/dev/nvidia[0-9]*", "/dev/dxg"),  # the second is what WSL has
    tools=("nvidia-smi",),
)
