"""Protocol nodes: where the bytes of an image file are."""
