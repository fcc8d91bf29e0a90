"""The ablations of the RealMNet study."""
