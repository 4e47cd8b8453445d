"""Make the index agree with the world (`indexing`), answer from it (`query`), and keep both honest (`housekeeping`)."""
