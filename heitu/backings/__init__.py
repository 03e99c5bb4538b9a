"""What executes for the cuda device where a chip is present: one file a vendor."""
