"""Scripts for maintainers, which no other module imports."""
