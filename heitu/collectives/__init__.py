"""The `nccl` process group over gloo, and NCCL's functions for one process with several devices."""
