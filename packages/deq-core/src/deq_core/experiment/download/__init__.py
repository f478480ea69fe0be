"""Published files: fetched, continued, checked and unpacked."""
