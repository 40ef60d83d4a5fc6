"""What a server reports about itself: logs, metrics, health and profiles."""
