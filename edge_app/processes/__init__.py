"""The processes of a running box: one that watches, those that receive and deliver, one that screens."""
