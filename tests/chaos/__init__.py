"""The kill loop: the whole stack under faults that derive from a seed, while files change; then heal, and check."""
