"""Reports of the studies: tables and figures, from what the stages left on disk alone."""
