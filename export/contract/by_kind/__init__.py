"""How far an artifact may be from Keras in each kind of output: a small module for each, and one table, `kinds`."""
