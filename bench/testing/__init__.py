"""Contract tests: what the harness relies on, checked for every installed method and dataset.

`pytest --pyargs bench.testing -k half` runs them on the method `half`, from any folder and without a clone. `-k`
also takes the name of a dataset. The tests need pytest, which the extra `testing` installs:
`pip install cnn-compression-bench[testing]`.
"""
