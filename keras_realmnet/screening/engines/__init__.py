"""The engines that run a bundle's models, each behind the same `predict`."""
