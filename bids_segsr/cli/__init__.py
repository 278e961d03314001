"""The two command lines: the BIDS App and the toolbox."""
