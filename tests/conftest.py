"""What every test stands on."""

import signal


def pytest_configure() -> None:
    """Let Ctrl-C work in the programs that tests start, even in a shell's background, where it is ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
