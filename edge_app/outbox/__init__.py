"""How results go out."""
