"""How fast, on this board, beside the other ways to run the same network."""
