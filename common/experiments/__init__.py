"""Measurements that take minutes to hours: studies over seeds, benchmarks, the time to 99.40 %, the frontier."""
