"""The command line: words on a screen. Parse, call one function, print."""
