"""Load-testing campaigns for Triton on Locust."""
