"""The commands that measure and prove: what a guide's scripts do, as one command's."""
