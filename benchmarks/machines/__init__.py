"""How fast, and how robust: speed of rewards, a server under load and under attack. No measure of any model."""
