"""Notice that something may have changed, and say so.  Never parse, never touch Qdrant."""
