"""Black-box checks of the `bitnet` command; check.py runs them."""
