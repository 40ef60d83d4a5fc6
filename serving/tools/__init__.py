"""Scripts for maintainers of serving; nothing at run time imports them."""
