"""Rooms at the top that nothing imports: the environment report and the like."""
