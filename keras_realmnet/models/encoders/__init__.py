"""Networks that have seen ImageNet, as encoders: the architectures, and the weights that packages bring along."""
