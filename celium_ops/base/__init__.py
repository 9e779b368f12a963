"""The ground floor: errors with exit codes, paths, atomic files. It imports nothing of ours."""
