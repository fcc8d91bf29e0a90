"""The pages and figures of a run and of a data set."""
