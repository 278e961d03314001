"""What a training sees: lists, volumes and the patches cut from them."""
