"""The numba backend: compiled loops over populations, with hand-written gradients."""
