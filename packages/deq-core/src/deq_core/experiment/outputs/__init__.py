"""What keeps outputs whole: records of what wrote them, the error of one that cannot be written, deferred signals."""
