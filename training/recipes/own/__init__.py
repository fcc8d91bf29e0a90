"""For your own pictures: see docs/own_data.md."""
