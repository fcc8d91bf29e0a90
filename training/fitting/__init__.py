"""The training of one recipe.

Top-down: `fit` (prepare, train, evaluate) > `run_folder` (what a run leaves), `loop` (phase by phase) > `callbacks`,
`checkpoints`, `devices` > `start` (the network, compiled) and `packages`, `folders`.
"""
