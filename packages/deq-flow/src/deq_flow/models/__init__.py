"""DEQ-Flow, RAFT and GMA from one set of parts."""
