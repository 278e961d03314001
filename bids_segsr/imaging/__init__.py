"""Arrays and affines in, arrays and affines out; knows nothing of torch, BIDS or Nipype."""
