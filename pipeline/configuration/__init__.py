"""The configuration: its sections, limits and descriptions, and TOML files."""
