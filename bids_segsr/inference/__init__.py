"""A network over a volume: tiling, blending, device and memory bound."""
