"""Contract tests, which hold every installed method and dataset to what the harness relies on.

`pytest --pyargs bench.testing -k half` runs them on the method `half`, from any folder and without a clone. `-k`
takes the name of a dataset too. The tests need pytest, which the extra `testing` installs:
`pip install cnn-compression-bench[testing]`.
"""
