"""How a process comes to have the cuda device: the environment handed on, and what a child does with it."""
