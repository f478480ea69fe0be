"""Downloads, checks and unpacks published files."""
