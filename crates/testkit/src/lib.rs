//! Test support: reference evaluation, generators, a fake clock.
