"""Exact theory: parameters in, numbers and curves out; float64, nothing sampled."""
