"""Networks that no library carries in the form their published checkpoints need."""
