"""A backend for the stock `triton` package that compiles kernels for the CPU.

Triton finds it by the entry point `triton.backends`; it is active where no other backend is.
"""
