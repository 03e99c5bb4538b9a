"""Stand-ins for vendors' runtimes, under which a vendor's own PyTorch plugin runs with no chip."""
