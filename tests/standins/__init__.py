"""Plugins that stand in for vendors: real PrivateUse1 backends over host memory, under their names."""
