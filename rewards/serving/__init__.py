"""A reward behind HTTP: what the server of `dgpo serve` is made of."""
