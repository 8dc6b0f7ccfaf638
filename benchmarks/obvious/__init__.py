"""SPEC's formulas spelled out with stock operators: what the project's own code is measured against, and nothing else.

Two branches everywhere, pooling of both maps for every window, labels mapped pixel by pixel. Nothing here knows how
the project computes the same thing; the benchmarks check that both agree before they time them.
"""
