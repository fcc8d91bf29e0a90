"""The data sets that a recipe names: images ready for the network, with their truth.

Every image passes through `keras_realmnet.screening.preprocessing`, the code that the box runs. Imports run one way:
`training.data` (label lists, files) < `training.phantoms` (drawing) < here: what all share, the pictures that are
`found` on the disk and those that are `made`, and what is made of several (`combined`, `cross_validation`).
"""
