"""The tracking store: connections, the store in an SQLite file, and records delivered once."""
