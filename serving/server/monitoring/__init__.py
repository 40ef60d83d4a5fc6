"""What a server reports about itself: metrics, the log of requests, and messages of libraries."""
