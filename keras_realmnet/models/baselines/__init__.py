"""The networks RealMNet is compared with."""
