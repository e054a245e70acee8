"""Benchmarks, run by hand: `python -m bench.ingest`, `python -m bench.imap`. docs/performance.md has figures."""
