"""Networks that rewards share or that no library carries as published, and what feeds them: devices, pixels."""
