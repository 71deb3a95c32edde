"""The models that the benchmarks run, one module per family.

Each module has `entries()`, which yields one `Entry` after the other so that only one model is in
memory at a time. Speed does not depend on what the weights are, so most are random; the trained
ones come from the examples.
"""
