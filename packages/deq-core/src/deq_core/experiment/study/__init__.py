"""Studies: cases, tables, figures and reports."""
