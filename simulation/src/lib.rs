//! Nothing: the simulations are in `tests/`.
