"""What watches over a training: hooks, in the order of `hooks.ORDER`."""
