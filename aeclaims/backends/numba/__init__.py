"""The numba backend: compiled loops over populations, with gradients by hand."""
