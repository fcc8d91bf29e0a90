"""What the report shows of grades, masks and points, kind by kind: tables of scores, and figures.

All is read from the folders that `evaluate` wrote; the examples of masks alone need the network and its test images.
"""
