"""The ground floor: errors, atomic files, settings, log, progress. Imports nothing of ours, and no torch."""
