"""How good an image is: beside the truth, beside its scan, by itself."""
