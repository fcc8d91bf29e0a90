"""Scores of grades, masks and points, for many bootstrap replicates at once; those of labels are in `statistics`.

Each scorer takes numbers of n cases, as `training.tasks` makes them of truth and prediction, and is called with how
often each unit counts. A score that does not exist is NaN; means over labels leave out a label that no case has.
"""
