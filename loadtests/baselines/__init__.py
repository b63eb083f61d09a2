"""What a team would build otherwise, as fast as it honestly gets, for comparison on the same records."""
