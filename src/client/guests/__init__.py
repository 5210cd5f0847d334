"""Other libraries on the same engines: joblib and dask."""
