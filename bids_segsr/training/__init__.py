"""Samples from label maps and the loop that fits the generator."""
