"""The parts of serve.py: servers, load, measurements, report."""
