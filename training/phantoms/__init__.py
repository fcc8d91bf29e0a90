"""Synthetic ultra-widefield images with exact truth."""
