"""Rewards that a server scores: its address, the connection, and what travels over it."""
