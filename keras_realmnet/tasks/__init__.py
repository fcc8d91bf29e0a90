"""What a network is asked: its outputs, what they mean as findings, and the rule by which findings become a decision.

NumPy and OpenCV only; the box runs it. A task is data: the run folder and the bundle hold it whole.
"""
