"""What a call is made of: its function, its arguments, and the options that say how it is to run."""
