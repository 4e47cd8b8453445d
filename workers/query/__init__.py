"""The query worker: finds chunks, and answers questions from them with citations."""
