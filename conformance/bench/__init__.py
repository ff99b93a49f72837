"""Speed: our own C programs under isagen, qemu-user and Unicorn, in turns."""
