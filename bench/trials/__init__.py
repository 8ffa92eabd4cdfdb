"""From a plan to records: baselines, one trial, many trials, suites."""
