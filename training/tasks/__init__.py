"""What training has to know of each kind of output: its truth, its losses, and how both are looked at while it trains.

One small module for each kind, and one table, `kinds.KINDS`. NumPy and OpenCV, no Keras: worker processes augment.
"""
