"""How a colour fundus photograph is drawn: its three planes, and what looks different there than to two lasers."""
