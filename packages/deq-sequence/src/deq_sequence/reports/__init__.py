"""Reports of the studies: tables and figures from the files that the stages wrote."""
