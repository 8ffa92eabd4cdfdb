"""Contract tests for methods and datasets: `pytest --pyargs bench.testing` holds every installed plugin to them."""
