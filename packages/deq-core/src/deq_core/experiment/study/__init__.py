"""Studies: a `stage` measures one case, a `report` summarises all cases."""
