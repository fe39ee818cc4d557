"""Weights of other programs: tables of names that turn them into ours."""
