"""Reports of the studies: tables and figures, made only from the files of the stages."""
