"""`python -m ops.embedded.qdrant`."""

from ops.embedded.qdrant.server import main

if __name__ == "__main__":
    main()
