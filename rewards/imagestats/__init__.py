"""Numbers that describe any image without a model; never called quality."""
