"""Verifiers: small functions that say of a row whether it holds. One file each; the registry knows their names."""
