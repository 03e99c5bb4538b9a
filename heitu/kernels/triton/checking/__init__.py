"""Kernels in their checked form: what a launch is judged by, and what is said of it."""
