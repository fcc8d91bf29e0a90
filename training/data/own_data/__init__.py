"""A researcher's own pictures: a vocabulary that says what the task is, a table, folders of masks."""
