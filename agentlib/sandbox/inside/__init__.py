"""The files that run within the walls. They import only each other: the package cannot be
imported in there."""
