"""The model of hits-only workloads, as our worker calls it: `python:bench.models:analyse`."""

from bench.payloads import analyse

__all__ = ["analyse"]
