"""The journal and its tables: the only place that knows DuckDB."""
