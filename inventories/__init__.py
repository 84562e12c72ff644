"""pyinfra inventories: which hosts a run is about."""
