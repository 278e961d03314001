"""Nipype interfaces: each a few lines around a function from below."""
