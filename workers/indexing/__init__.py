"""Make the index agree with the world: one hint, one attempt, one road (read `reconcile` first)."""
