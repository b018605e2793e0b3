"""Measure mixtures against honest baselines."""
