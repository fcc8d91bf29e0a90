"""The published networks and the baselines they were compared with, on PSMM."""
