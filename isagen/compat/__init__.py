"""Other emulators' interfaces over ours, so that scripts written for them run."""
