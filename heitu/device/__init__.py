"""The cuda device: its C++ core (`csrc/`) and the Python that supplies `torch._C._cuda_*`."""
