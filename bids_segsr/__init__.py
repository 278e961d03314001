"""Super-resolution and cortex segmentation of thick-slice brain MRI, as a BIDS App."""

__version__ = '0.2.0'
