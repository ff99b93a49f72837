"""Format nodes: how a disk lies in image files. `runtime.block.registry` lists them."""
