"""Kernels of programs: Triton's, compiled for the CPU."""
